"""Protobuf messages from a .proto's text, where a protocol has one and its names are not ours to choose."""

import re
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Kind

FIELD = re.compile(r"(?:(repeated) |(map)<string, )?([\w.]+)>? (\w+) = (\d+);")


def read_proto(name: str, package: str, text: str) -> FileDescriptorProto:
    """The file `name` of these messages. Raises `ValueError` at a line that is not understood.

    One thing a line: a message, a oneof, a field, or the end of what is open. A message that is named as a
    type is given from the package on ("Outer.Inner"), in this package.
    """
    reader = _Reader(FileDescriptorProto(name=name, package=package, syntax="proto3"))
    for line in text.strip().splitlines():
        reader.read(line.strip())
    return reader.file


class _Reader:
    """Adds to `file` what each line says; `open` holds what is not closed yet: messages, None for a oneof."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self.file = file
        self.open: list[DescriptorProto | None] = []

    def read(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        name = rest.removesuffix(" {")
        if word == "message":
            self.open.append(
                self.open[-1].nested_type.add(name=name)
                if self.open and self.open[-1]
                else self.file.message_type.add(name=name)
            )
        elif word == "oneof":
            self._message().oneof_decl.add(name=name)
            self.open.append(None)
        elif word == "}":
            self.open.pop()
        else:
            self._add_field(line)

    def _message(self) -> Any:
        return next(message for message in reversed(self.open) if message is not None)

    def _add_field(self, line: str) -> None:
        told = FIELD.fullmatch(line)
        if told is None:
            raise ValueError(f"no field: {line!r}")
        repeated, map_, kind, name, number = told.groups()
        field = self._message().field.add(name=name, number=int(number), label=Kind.LABEL_OPTIONAL)
        if self.open[-1] is None:
            field.oneof_index = 0
        if repeated or map_:
            field.label = Kind.LABEL_REPEATED
        if map_:
            kind = self._add_entry(name, kind)
        self._set_type(field, kind)

    def _add_entry(self, name: str, kind: str) -> str:
        """A map is a repeated entry: a message inside this one. Its path."""
        short = "".join(word.capitalize() for word in name.split("_")) + "Entry"
        entry = self._message().nested_type.add(name=short, options={"map_entry": True})
        for number, (part, type_) in enumerate({"key": "string", "value": kind}.items(), 1):
            field = entry.field.add(name=part, number=number, label=Kind.LABEL_OPTIONAL)
            self._set_type(field, type_)
        return ".".join([*(message.name for message in self.open if message is not None), short])

    def _set_type(self, field: Kind, kind: str) -> None:
        if kind[0].isupper():
            field.type, field.type_name = Kind.TYPE_MESSAGE, f".{self.file.package}.{kind}"
        else:
            field.type = Kind.Type.Value(f"TYPE_{kind.upper()}")
