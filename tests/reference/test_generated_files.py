"""The generated files that are checked in equal what the code generates."""

from pathlib import Path

import pytest

from deployments.reference.__main__ import INFERENCE_PROTO, ROOT, generated_files
from deployments.reference.protos import compiled

GENERATED = generated_files()


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: str(path.relative_to(ROOT)))
def test_generated_file_is_current(path: Path) -> None:
    assert path.read_bytes() == GENERATED[path], "run `make docs`"


def test_docs_protos_holds_generated_files_and_one_source() -> None:
    folder = INFERENCE_PROTO.parent
    assert {*folder.iterdir()} == {INFERENCE_PROTO, *(path for path in GENERATED if path.parent == folder)}


def test_broken_proto_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "broken.proto"
    source.write_text('syntax = "proto3";\nmessage A {\n  string name\n}\n')
    with pytest.raises(ValueError, match=r"protoc cannot compile .*broken\.proto"):
        compiled(source)
