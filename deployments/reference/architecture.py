"""The chart of the packages in docs/architecture.md: the layers of the import contract."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "deployments"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- packages: written by `make docs` -->\n", "<!-- /packages -->"
HEAD = "| layer | module or package | content |\n|---|---|---|\n"


def text() -> str:
    """Write the page: the hand-written text with the current chart between its markers."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}{chart()}{END}{rest.partition(END)[2]}"


def chart() -> str:
    """Draw a row per module or package, from the layer that imports all others down."""
    return HEAD + "".join(
        row for number, layer in enumerate(_layers(), 1) for name in layer for row in _rows(number, name)
    )


def _layers() -> list[list[str]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts: list[dict[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [layer.split(" | ") for layer in layers]


def _rows(number: int, name: str) -> Iterator[str]:
    """Yield the row of a package's module, and a row for each package inside it."""
    file = PACKAGE / f"{name}.py"
    if file.exists():
        yield f"| {number} | `{file.name}` | {_summary(file)} |\n"
        return
    for init in sorted((PACKAGE / name).rglob("__init__.py")):
        package = init.parent.relative_to(PACKAGE).as_posix()
        yield f"| {number} | `{package}/` | {_summary(init)} |\n"


def _summary(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0].replace("|", r"\|")
