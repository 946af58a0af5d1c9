"""The .proto text of messages and services that the gateway describes at run time, one file per package.

The files are for readers and for clients that compile stubs; clients that use reflection do not need them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool

HEADER = "// Written by `python -m deployments.reference`; a test compares it with what the gateway serves."
INDENT = "  "
Lines = Iterator[str]


def documents(services: Iterable[str], pool: DescriptorPool | None = None) -> dict[str, str]:
    """The texts that describe these services and all that they mention, by file name."""
    packages: dict[str, list[Any]] = defaultdict(list)
    for file in _reachable(services, pool or Default()):
        packages[file.package].append(file)
    return {f"{package}.proto": "\n".join(_package(package, files)) for package, files in packages.items()}


def _reachable(services: Iterable[str], pool: DescriptorPool) -> Iterator[Any]:
    """The files of the services and of their messages, protobuf's own left out, each once."""
    found: dict[str, Any] = {}
    waiting = [pool.FindFileContainingSymbol(service) for service in services]
    while waiting:
        file = waiting.pop()
        if file.name not in found and not _is_known(file):
            found[file.name] = file
            waiting += file.dependencies
    yield from sorted(found.values(), key=lambda file: str(file.name))


def _is_known(file: Any) -> bool:
    return str(file.package) == "google.protobuf"


def _package(package: str, files: list[Any]) -> Lines:
    imports = {d.name if _is_known(d) else f"{d.package}.proto" for file in files for d in file.dependencies}
    yield from (HEADER, 'syntax = "proto3";', "", f"package {package};")
    if others := sorted(imports - {f"{package}.proto"}):
        yield from ("", *(f'import "{name}";' for name in others))
    for file in map(_proto, files):
        for service in file.service:
            yield from ("", *_service(service))
    for file in map(_proto, files):
        for message in file.message_type:
            yield from ("", *_message(message))
    yield ""


def _proto(file: Any) -> Any:
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    return proto


def _service(service: Any) -> Lines:
    yield f"service {service.name} {{"
    for method in service.method:
        asked = "stream " * method.client_streaming + method.input_type.removeprefix(".")
        answered = "stream " * method.server_streaming + method.output_type.removeprefix(".")
        yield f"{INDENT}rpc {method.name}({asked}) returns ({answered});"
    yield "}"


def _message(message: Any) -> Lines:
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    yield f"message {message.name} {{"
    for nested in message.nested_type:
        if nested.name not in entries:
            yield from (f"{INDENT}{line}" for line in _message(nested))
    for choice, fields in groupby(message.field, lambda field: _choice(message, field)):
        lines = [_field(field, entries.get(field.type_name.rpartition(".")[2])) for field in fields]
        yield from (f"{INDENT}{line}" for line in (_oneof(choice, lines) if choice else lines))
    yield "}"


def _choice(message: Any, field: Any) -> str | None:
    """The oneof that a field is in; what is `optional` has one of its own, that no .proto shows."""
    if not field.HasField("oneof_index") or field.proto3_optional:
        return None
    return str(message.oneof_decl[field.oneof_index].name)


def _oneof(name: str, fields: Iterable[str]) -> Lines:
    yield from (f"oneof {name} {{", *(f"{INDENT}{field}" for field in fields), "}")


def _field(field: Any, entry: Any | None) -> str:
    kind = f"map<{', '.join(map(_type, entry.field))}>" if entry else _label(field) + _type(field)
    return f"{kind} {field.name} = {field.number};"


def _label(field: Any) -> str:
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return "repeated "
    return "optional " if field.proto3_optional else ""


def _type(field: Any) -> str:
    name: str = FieldDescriptorProto.Type.Name(field.type)
    return field.type_name.removeprefix(".") or name.removeprefix("TYPE_").lower()
