"""Build protobuf messages and services from schemas at run time, in a descriptor pool.

| in a schema                    | in a message                                  |
|--------------------------------|-----------------------------------------------|
| str, bytes, bool, int, float   | string, bytes, bool, int64, double            |
| list[X], dict[str, X]          | repeated X, map<string, X>                    |
| a schema                       | a separate message, in a separate file        |
| dict[str, Any]                 | google.protobuf.Struct                        |
| anything else                  | google.protobuf.Value: any JSON value         |

Field numbers follow the order of the fields, unless a `Number` sets them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from google.protobuf import json_format, message_factory, struct_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as FieldProto
from google.protobuf.descriptor_pb2 import FileDescriptorProto as FileProto
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message import DecodeError, Message
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from deployments.errors import Internal
from deployments.wire.annotations import strip_annotated, unwrap_optional

SCALARS = {
    str: FieldProto.TYPE_STRING,
    bytes: FieldProto.TYPE_BYTES,
    bool: FieldProto.TYPE_BOOL,
    int: FieldProto.TYPE_INT64,
    float: FieldProto.TYPE_DOUBLE,
}
VALUE_FIELDS = {
    NoneType: "null_value",
    bool: "bool_value",
    str: "string_value",
    list: "list_value",
    dict: "struct_value",
}
STRUCT, VALUE = "google.protobuf.Struct", "google.protobuf.Value"


@dataclass(frozen=True)
class Number:
    """The number of a field that does not follow the order: `loaded: Annotated[bool, Number(7)]`."""

    value: int


def message_class(
    schema: type[BaseModel], package: str, pool: DescriptorPool | None = None, *, presence: bool = False
) -> type[Message]:
    """Return the message class for `schema`, and add it to `pool` (the default one) if it is missing.

    Nested schemas become messages of the same package. With `presence`, fields that have a default are
    `optional`, so that an explicit zero differs from a missing field. Raises `TypeError` if the pool has
    another message of this name.
    """
    pool = pool or Default()
    builder = _MessageBuilder(schema.__name__, package, pool, presence)
    for number, name, field in _numbered_fields(schema):
        builder.add_field(number, name, field)
    _add_file(pool, builder.file)
    descriptor = pool.FindMessageTypeByName(f"{package}.{schema.__name__}")
    class_: type[Message] = message_factory.GetMessageClass(descriptor)
    return class_


def add_service(
    name: str,
    methods: Mapping[str, tuple[type[Message], type[Message]]],
    pool: DescriptorPool | None = None,
) -> None:
    """Add a service's unary methods (request and response class by name) to `pool`, for reflection.

    A pool cannot remove a service: one that is in the pool already stays unchanged, even with other methods.
    """
    pool = pool or Default()
    package, _, short_name = name.rpartition(".")
    file = _new_file(package, short_name)
    service = file.service.add(name=short_name)
    for method, message_types in methods.items():
        request, response = (message_type.DESCRIPTOR for message_type in message_types)
        service.method.add(
            name=method, input_type=f".{request.full_name}", output_type=f".{response.full_name}"
        )
        _add_dependencies(file, request.file.name, response.file.name)
    try:
        pool.FindServiceByName(name)
    except KeyError:
        _add_file(pool, file)


def parse_message(message_type: type[Message], raw: bytes) -> Message:
    """Parse a serialized message. Raises `Internal` with gRPC's own sentence if `raw` is not valid."""
    try:
        return message_type.FromString(raw)
    except DecodeError:
        raise Internal("Exception deserializing request!") from None


def parse_fields(message_type: type[Message], raw: bytes) -> dict[str, Any]:
    """Parse a serialized message into its fields by name. Raises as `parse_message` does.

    A field that the sender left out is zero, or missing if it is `optional`.
    """
    return _message_to_dict(parse_message(message_type, raw))


def serialize(message_type: type[Message], value: BaseModel) -> bytes:
    """Serialize a value of the schema of `message_type`; leave out fields that are None."""
    message = message_type(**_schema_to_dict(message_type.DESCRIPTOR, value))
    serialized: bytes = message.SerializeToString()
    return serialized


class _MessageBuilder:
    """Builds one message, the only one in its file."""

    def __init__(self, name: str, package: str, pool: DescriptorPool, presence: bool) -> None:
        self.file = _new_file(package, name)
        self.message = self.file.message_type.add(name=name)
        self.pool, self.presence = pool, presence

    def add_field(self, number: int, name: str, field: FieldInfo) -> None:
        proto = self.message.field.add(name=name, number=number, label=FieldProto.LABEL_OPTIONAL)
        self._set_type(proto, unwrap_optional(strip_annotated(field.annotation)))
        is_scalar = proto.label == FieldProto.LABEL_OPTIONAL and proto.type != FieldProto.TYPE_MESSAGE
        if self.presence and is_scalar and not field.is_required():
            proto.proto3_optional, proto.oneof_index = True, len(self.message.oneof_decl)
            self.message.oneof_decl.add(name=f"_{name}")

    def _set_type(self, proto: FieldProto, annotation: Any) -> None:
        origin, args = get_origin(annotation), get_args(annotation)
        if annotation in SCALARS:
            proto.type = SCALARS[annotation]
        elif origin is Literal:
            proto.type = SCALARS[type(args[0])]
        elif _is_schema(annotation):
            nested = message_class(annotation, self.file.package, self.pool, presence=self.presence)
            self._set_message_type(proto, nested)
        elif origin is list and (args[0] in SCALARS or _is_schema(args[0]) or get_origin(args[0]) is Literal):
            proto.label = FieldProto.LABEL_REPEATED
            self._set_type(proto, args[0])
        elif origin is dict and args[0] is str and args[1] in SCALARS:
            self._set_map_type(proto, SCALARS[args[1]])
        else:
            self._set_message_type(proto, struct_pb2.Struct if origin is dict else struct_pb2.Value)

    def _set_message_type(self, proto: FieldProto, message_type: type[Message]) -> None:
        descriptor = message_type.DESCRIPTOR
        proto.type, proto.type_name = FieldProto.TYPE_MESSAGE, f".{descriptor.full_name}"
        _add_dependencies(self.file, descriptor.file.name)

    def _set_map_type(self, proto: FieldProto, value_type: int) -> None:
        """Make the field a map: a repeated entry message, nested in this one."""
        name = "".join(part.capitalize() for part in proto.name.split("_")) + "Entry"
        entry = self.message.nested_type.add(name=name, options={"map_entry": True})
        optional = FieldProto.LABEL_OPTIONAL
        entry.field.add(name="key", number=1, label=optional, type=FieldProto.TYPE_STRING)
        entry.field.add(name="value", number=2, label=optional, type=value_type)
        proto.type, proto.label = FieldProto.TYPE_MESSAGE, FieldProto.LABEL_REPEATED
        proto.type_name = f".{self.file.package}.{self.message.name}.{name}"


def _new_file(package: str, name: str) -> FileProto:
    return FileProto(name=f"{package}.{name.lower()}.proto", package=package, syntax="proto3")


def _add_dependencies(file: FileProto, *names: str) -> None:
    file.dependency.extend(sorted({*names} - {*file.dependency, file.name}))


def _add_file(pool: DescriptorPool, file: FileProto) -> None:
    if struct_pb2.DESCRIPTOR.name in file.dependency:
        pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())


def _numbered_fields(schema: type[BaseModel]) -> Iterator[tuple[int, str, FieldInfo]]:
    fixed = {name: _fixed_number(field) for name, field in schema.model_fields.items()}
    free = (number for number in count(1) if number not in fixed.values())
    for name, field in schema.model_fields.items():
        yield fixed[name] or next(free), name, field


def _fixed_number(field: FieldInfo) -> int | None:
    return next((item.value for item in field.metadata if isinstance(item, Number)), None)


def _is_schema(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _message_to_dict(message: Message) -> dict[str, Any]:
    present = [f for f in message.DESCRIPTOR.fields if not f.has_presence or message.HasField(f.name)]
    return {field.name: _field_to_python(field, getattr(message, field.name)) for field in present}


def _field_to_python(field: FieldDescriptor, value: Any) -> Any:
    if _is_map(field):
        return dict(value)
    if field.is_repeated:
        return [_message_to_python(item) for item in value] if field.message_type else list(value)
    return _message_to_python(value) if field.message_type else value


def _message_to_python(message: Message) -> Any:
    is_json = message.DESCRIPTOR.full_name in (STRUCT, VALUE)
    return json_format.MessageToDict(message) if is_json else _message_to_dict(message)


def _schema_to_dict(descriptor: Any, value: BaseModel) -> dict[str, Any]:
    return {name: _field_to_proto(descriptor.fields_by_name[name], inner) for name, inner in value}


def _field_to_proto(field: FieldDescriptor, value: Any) -> Any:
    if value is None or not field.message_type or _is_map(field):
        return value
    if field.is_repeated:
        return [_value_to_proto(field, item) for item in value]
    return _value_to_proto(field, value)


def _value_to_proto(field: FieldDescriptor, value: Any) -> Any:
    name = field.message_type.full_name
    if name not in (STRUCT, VALUE):
        return _schema_to_dict(field.message_type, value)
    jsonable = to_jsonable_python(value)
    return jsonable if name == STRUCT else _json_to_value(jsonable)


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _json_to_value(value: Any) -> dict[str, Any]:
    """Return the arguments of a `google.protobuf.Value` that holds a JSON value."""
    return {VALUE_FIELDS.get(type(value), "number_value"): 0 if value is None else value}
