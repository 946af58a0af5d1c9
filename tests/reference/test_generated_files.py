"""The generated files that are checked in equal what the code generates."""

import pytest

from deployments.reference.__main__ import ROOT, generated_files

GENERATED = generated_files()


@pytest.mark.parametrize("path", GENERATED)
def test_generated_file_is_current(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == GENERATED[path], "run `make docs`"


def test_docs_protos_has_no_other_files() -> None:
    protos = {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "protos").iterdir()}
    assert protos == {path for path in GENERATED if path.startswith("docs/protos/")}
