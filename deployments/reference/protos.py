"""The .proto files of docs/protos: print what the gateway describes at run time, compile what it reads.

Printed files, one per package, are for readers and for clients that compile stubs; clients that use
reflection do not need them. `inference.proto` is a source: the Open Inference Protocol defines it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool

HEADER = "// Written by `python -m deployments.reference`; a test compares it with what the gateway serves."
INDENT = "  "
Lines = Iterator[str]


def compiled(source: Path) -> bytes:
    """Compile a .proto file without imports to a `FileDescriptorSet`. Raises `ValueError` if protoc fails."""
    from grpc_tools import protoc  # only documents and tests need it

    with TemporaryDirectory() as folder:
        target = Path(folder) / source.with_suffix(".binpb").name
        if protoc.main(["protoc", f"-I{source.parent}", f"--descriptor_set_out={target}", source.name]):
            raise ValueError(f"protoc cannot compile {source}")
        return target.read_bytes()


def documents(services: Iterable[str], pool: DescriptorPool | None = None) -> dict[str, str]:
    """Print these services and the messages that they use; return the texts by file name."""
    packages: dict[str, list[Any]] = defaultdict(list)
    for file in _reachable(services, pool or Default()):
        packages[file.package].append(file)
    return {f"{package}.proto": "\n".join(_package(package, files)) for package, files in packages.items()}


def _reachable(services: Iterable[str], pool: DescriptorPool) -> Iterator[Any]:
    """Yield the files of the services and of their messages, each once, without protobuf's."""
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
        request, response = method.input_type.removeprefix("."), method.output_type.removeprefix(".")
        yield f"{INDENT}rpc {method.name}({request}) returns ({response});"
    yield "}"


def _message(message: Any) -> Lines:
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    yield f"message {message.name} {{"
    for field in message.field:
        yield INDENT + _field(field, entries.get(field.type_name.rpartition(".")[2]))
    yield "}"


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
