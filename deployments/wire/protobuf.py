"""Schemas in, protobuf out: messages and services made at run time, in a descriptor pool.

| in a schema                    | in a message                                     |
|--------------------------------|--------------------------------------------------|
| str, bytes, bool, int, float   | string, bytes, bool, int64, double               |
| list[X], dict[str, X]          | repeated X, map<string, X>                       |
| a schema                       | a message of its own, in a file of its own       |
| dict[str, Any]                 | google.protobuf.Struct                           |
| anything else                  | google.protobuf.Value: what JSON can hold        |

Numbers follow the order of the fields, where no `Number` says otherwise.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from google.protobuf import json_format, message_factory, struct_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Kind
from google.protobuf.descriptor_pb2 import FileDescriptorProto as File
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message import DecodeError, Message
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from deployments.errors import Internal

SCALARS = {
    str: Kind.TYPE_STRING,
    bytes: Kind.TYPE_BYTES,
    bool: Kind.TYPE_BOOL,
    int: Kind.TYPE_INT64,
    float: Kind.TYPE_DOUBLE,
}
JSON_KINDS = {
    NoneType: "null_value",
    bool: "bool_value",
    str: "string_value",
    list: "list_value",
    dict: "struct_value",
}
STRUCT, VALUE = "google.protobuf.Struct", "google.protobuf.Value"


@dataclass(frozen=True)
class Number:
    """A field's number, where it is not its place: `loaded: Annotated[bool, Number(7)]`."""

    value: int


def bare(annotation: Any) -> Any:
    """The type without what `Annotated` adds, at any depth: `list[Text]` is `list[str]`."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return bare(args[0])
    if not args or origin is Literal:
        return annotation
    if origin in (Union, UnionType):
        return Union[tuple(bare(arg) for arg in args)]  # noqa: UP007
    return origin[tuple(bare(arg) for arg in args)]


def without_none(annotation: Any) -> Any:
    """The type when a value is given: `float | None` is `float`."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    return Union[tuple(arg for arg in get_args(annotation) if arg is not NoneType)]  # noqa: UP007


def message(
    schema: type[BaseModel], package: str, pool: DescriptorPool | None = None, *, presence: bool = False
) -> type[Message]:
    """The message class for `schema`, made in `pool` (the default one) unless it is there already.

    Schemas inside it become messages of the same package. With `presence`, fields that have a default are
    `optional`, so that an explicit zero can be told from none. Raises `TypeError` where the pool knows
    another message by this name.
    """
    pool = pool or Default()
    draft = _Draft(schema.__name__, package, pool, presence)
    for number, name, field in _numbered(schema):
        draft.add_field(number, name, field)
    _add(pool, draft.file)
    return _class(pool.FindMessageTypeByName(f"{package}.{schema.__name__}"))


def service(
    name: str,
    methods: Mapping[str, tuple[type[Message], type[Message]]],
    pool: DescriptorPool | None = None,
) -> None:
    """Describe a service's unary methods (request and response class by name) in `pool`, for reflection.

    A pool cannot forget: a service that it describes already stays unchanged, even with other methods.
    """
    pool = pool or Default()
    package, _, short = name.rpartition(".")
    file = _file(package, short)
    made = file.service.add(name=short)
    for method, pair in methods.items():
        request, response = (message_type.DESCRIPTOR for message_type in pair)
        made.method.add(name=method, input_type=f".{request.full_name}", output_type=f".{response.full_name}")
        _depend(file, request.file.name, response.file.name)
    try:
        pool.FindServiceByName(name)
    except KeyError:
        _add(pool, file)


def read(kind: type[Message], raw: bytes) -> dict[str, Any]:
    """Parse a request: its fields by name, those left out at their zero (or missing, if they are `optional`).

    Raises `Internal` in gRPC's own words when `raw` is no such message.
    """
    try:
        parsed = kind.FromString(raw)
    except DecodeError:
        raise Internal("Exception deserializing request!") from None
    return _plain_fields(parsed)


def write(kind: type[Message], value: BaseModel) -> bytes:
    """Serialize a value whose schema `kind` was made from; None is a field left out."""
    filled = kind(**_fields(kind.DESCRIPTOR, value))
    serialized: bytes = filled.SerializeToString()
    return serialized


class _Draft:
    """One message while it is being described, alone in its file."""

    def __init__(self, name: str, package: str, pool: DescriptorPool, presence: bool) -> None:
        self.file = _file(package, name)
        self.message = self.file.message_type.add(name=name)
        self.pool, self.presence = pool, presence

    def add_field(self, number: int, name: str, field: FieldInfo) -> None:
        into = self.message.field.add(name=name, number=number, label=Kind.LABEL_OPTIONAL)
        self._type(into, without_none(bare(field.annotation)))
        scalar = into.label == Kind.LABEL_OPTIONAL and into.type != Kind.TYPE_MESSAGE
        if self.presence and scalar and not field.is_required():
            into.proto3_optional, into.oneof_index = True, len(self.message.oneof_decl)
            self.message.oneof_decl.add(name=f"_{name}")

    def _type(self, into: Kind, annotation: Any) -> None:
        origin, args = get_origin(annotation), get_args(annotation)
        if annotation in SCALARS:
            into.type = SCALARS[annotation]
        elif origin is Literal:
            into.type = SCALARS[type(args[0])]
        elif _is_schema(annotation):
            self._refer(into, message(annotation, self.file.package, self.pool, presence=self.presence))
        elif origin is list and (args[0] in SCALARS or _is_schema(args[0]) or get_origin(args[0]) is Literal):
            into.label = Kind.LABEL_REPEATED
            self._type(into, args[0])
        elif origin is dict and args[0] is str and args[1] in SCALARS:
            self._map(into, SCALARS[args[1]])
        else:
            self._refer(into, struct_pb2.Struct if origin is dict else struct_pb2.Value)

    def _refer(self, into: Kind, kind: type[Message]) -> None:
        into.type, into.type_name = Kind.TYPE_MESSAGE, f".{kind.DESCRIPTOR.full_name}"
        _depend(self.file, kind.DESCRIPTOR.file.name)

    def _map(self, into: Kind, value: int) -> None:
        """A map is a repeated entry: a message inside this one."""
        name = "".join(word.capitalize() for word in into.name.split("_")) + "Entry"
        entry = self.message.nested_type.add(name=name, options={"map_entry": True})
        entry.field.add(name="key", number=1, label=Kind.LABEL_OPTIONAL, type=Kind.TYPE_STRING)
        entry.field.add(name="value", number=2, label=Kind.LABEL_OPTIONAL, type=value)
        into.type, into.label = Kind.TYPE_MESSAGE, Kind.LABEL_REPEATED
        into.type_name = f".{self.file.package}.{self.message.name}.{name}"


def _file(package: str, name: str) -> File:
    return File(name=f"{package}.{name.lower()}.proto", package=package, syntax="proto3")


def _depend(file: File, *others: str) -> None:
    file.dependency.extend(sorted({*others} - {*file.dependency, file.name}))


def _add(pool: DescriptorPool, file: File) -> None:
    if struct_pb2.DESCRIPTOR.name in file.dependency:
        pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())


def _class(descriptor: Any) -> type[Message]:
    kind: type[Message] = message_factory.GetMessageClass(descriptor)
    return kind


def _numbered(schema: type[BaseModel]) -> Iterator[tuple[int, str, FieldInfo]]:
    given = {name: _number(field) for name, field in schema.model_fields.items()}
    free = (number for number in count(1) if number not in given.values())
    for name, field in schema.model_fields.items():
        yield given[name] or next(free), name, field


def _number(field: FieldInfo) -> int | None:
    return next((mark.value for mark in field.metadata if isinstance(mark, Number)), None)


def _is_schema(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _plain_fields(value: Message) -> dict[str, Any]:
    present = [f for f in value.DESCRIPTOR.fields if not f.has_presence or value.HasField(f.name)]
    return {field.name: _plain_field(field, getattr(value, field.name)) for field in present}


def _plain_field(field: FieldDescriptor, value: Any) -> Any:
    if _is_map(field):
        return dict(value)
    if field.is_repeated:
        return [_plain(item) for item in value] if field.message_type else list(value)
    return _plain(value) if field.message_type else value


def _plain(value: Message) -> Any:
    known = value.DESCRIPTOR.full_name in (STRUCT, VALUE)
    return json_format.MessageToDict(value) if known else _plain_fields(value)


def _fields(descriptor: Any, value: BaseModel) -> dict[str, Any]:
    return {name: _field(descriptor.fields_by_name[name], inner) for name, inner in value}


def _field(field: FieldDescriptor, value: Any) -> Any:
    if value is None or not field.message_type or _is_map(field):
        return value
    return [_nested(field, item) for item in value] if field.is_repeated else _nested(field, value)


def _nested(field: FieldDescriptor, value: Any) -> Any:
    name = field.message_type.full_name
    if name not in (STRUCT, VALUE):
        return _fields(field.message_type, value)
    plain = to_jsonable_python(value)
    return plain if name == STRUCT else _json_value(plain)


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _json_value(value: Any) -> dict[str, Any]:
    """A Value in the form that its constructor takes."""
    return {JSON_KINDS.get(type(value), "number_value"): 0 if value is None else value}
