"""Caikit's messages and services equal the reference's, from its reflection; docs/protos compiles."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_tools import protoc

import deployments.tasks  # noqa: F401
from deployments.reference.__main__ import ROOT
from deployments.reference.protos import documents
from deployments.wire.caikit.rpcs import rpcs, typed_rpcs

HERE = Path(__file__).parent
FOLDER = ROOT / "docs" / "protos"
SERVICES = ["caikit.runtime.Runtime.RuntimeService", "caikit.runtime.info.InfoService"]


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each service and message: its full name, and its lines with full names and without comments."""
    package, name = "", ""
    lines: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if match := re.match(r"(?:// ---- )?package ([\w.]+)", line):
            package = match[1]
        elif match := re.match(r"(service|message) (\w+) {", line):
            name, lines = f"{match[1]} {package}.{match[2]}", []
        elif line == "}":
            yield name, lines
        elif name and line:
            lines.append(re.sub(r"(?<=[ (])\.", "", f" {line}").strip())


@pytest.fixture(scope="module")
def served_blocks() -> dict[str, list[str]]:
    pool = DescriptorPool()
    rpcs(pool)
    return dict(block for text in documents(SERVICES, pool).values() for block in blocks(text))


CONTRACT = dict(blocks((HERE / "caikit_contract.proto").read_text()))


@pytest.mark.parametrize("name", [name for name in CONTRACT if name.startswith("message")])
def test_message_equals_reference(served_blocks: dict[str, list[str]], name: str) -> None:
    assert served_blocks[name] == CONTRACT[name]


@pytest.mark.parametrize("name", [name for name in CONTRACT if name.startswith("service")])
def test_service_has_rpcs_of_reference(served_blocks: dict[str, list[str]], name: str) -> None:
    assert set(CONTRACT[name]) <= set(served_blocks[name])


def test_only_message_fields_have_presence() -> None:
    for rpc in typed_rpcs(DescriptorPool()):
        for field in (*rpc.request.DESCRIPTOR.fields, *rpc.response.DESCRIPTOR.fields):
            assert field.has_presence == (field.message_type is not None and not field.is_repeated)


def test_documented_protos_compile(tmp_path: Path) -> None:
    target = f"--descriptor_set_out={tmp_path / 'all'}"
    includes = [f"-I{FOLDER}", f"-I{well_known_types()}"]
    assert protoc.main(["protoc", *includes, target, *map(str, FOLDER.glob("*.proto"))]) == 0


def well_known_types() -> Path:
    import grpc_tools

    return Path(grpc_tools.__file__).parent / "_proto"
