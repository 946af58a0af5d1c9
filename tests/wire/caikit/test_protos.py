"""What is served is what the reference's reflection told; docs/protos shows it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_tools import protoc

import deployments.tasks  # noqa: F401
from deployments.reference.__main__ import ROOT
from deployments.reference.protos import documents
from deployments.wire.caikit.rpcs import methods, rpcs

HERE = Path(__file__).parent
FOLDER = ROOT / "docs" / "protos"
SERVICES = ["caikit.runtime.Runtime.RuntimeService", "caikit.runtime.info.InfoService"]


def blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every service and message, by its full name: its lines, with full names and without comments."""
    package, name = "", ""
    lines: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if found := re.match(r"(?:// ---- )?package ([\w.]+)", line):
            package = found[1]
        elif found := re.match(r"(service|message) (\w+) {", line):
            name, lines = f"{found[1]} {package}.{found[2]}", []
        elif line == "}":
            yield name, lines
        elif name and line:
            lines.append(re.sub(r"(?<=[ (])\.", "", f" {line}").strip())


@pytest.fixture(scope="module")
def served() -> dict[str, list[str]]:
    pool = DescriptorPool()
    rpcs(pool)
    return dict(block for text in documents(SERVICES, pool).values() for block in blocks(text))


CONTRACT = dict(blocks((HERE / "caikit_contract.proto").read_text()))


@pytest.mark.parametrize("name", [name for name in CONTRACT if name.startswith("message")])
def test_messages_are_the_reference_s(served: dict[str, list[str]], name: str) -> None:
    assert served[name] == CONTRACT[name]


@pytest.mark.parametrize("name", [name for name in CONTRACT if name.startswith("service")])
def test_services_have_the_reference_s_rpcs(served: dict[str, list[str]], name: str) -> None:
    assert set(CONTRACT[name]) <= set(served[name])


def test_fields_have_no_presence_but_messages() -> None:
    for method in methods(DescriptorPool()):
        for field in (*method.request.DESCRIPTOR.fields, *method.answer.DESCRIPTOR.fields):
            assert field.has_presence == (field.message_type is not None and not field.is_repeated)


def test_docs_compile(tmp_path: Path) -> None:
    target = f"--descriptor_set_out={tmp_path / 'all'}"
    assert (
        protoc.main(["protoc", f"-I{FOLDER}", f"-I{well_known()}", target, *map(str, FOLDER.glob("*.proto"))])
        == 0
    )


def well_known() -> Path:
    import grpc_tools

    return Path(grpc_tools.__file__).parent / "_proto"
