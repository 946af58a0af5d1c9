"""docs/architectures.md: written by `python -m tests.zoo`, read by the tests."""

import re
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.zoo.outcomes import EQUAL, ZOOS, outcome

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
COLUMNS = (("torch", "float32"), ("torch", "bfloat16"), ("torch", "float16"), ("openvino", "float32"))
HEAD = """# Architectures

What each module does with each family of architectures of transformers that reads its kind of data. A tiny
network with random weights stands for a family. Its answers are compared with those of transformers' network,
which gets each text alone: short texts, texts of the longest length and of one token more, each alone and all
in one batch. Half precision may have the error that it has in transformers.

`python -m tests.zoo` writes this page; the tests hold the first column to it.

- **equal**: the answers are transformers' own.
- **refused**: the model is unavailable, with a reason that says why; other settings may serve it.
- An empty cell: the module has no such engine, or the family was not tried for the reason given.
"""
ROW = re.compile(r"^\| `(?P<family>[^`]+)` \| (?P<first>[a-z]*)", re.MULTILINE)


def page() -> str:
    """Return the page, after every outcome has been determined again, on all processors."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        sections = {task: "".join(_section(task, pool)) for task in ZOOS}
    return HEAD + "".join(f"\n{section}" for section in sections.values())


def documented(text: str) -> dict[tuple[str, str], str]:
    """Return the outcome with torch in float32 of each task and family on the page."""
    found = {}
    for section in text.split("\n## ")[1:]:
        task = section.partition("\n")[0].strip("`")
        found |= {(task, row["family"]): row["first"] for row in ROW.finditer(section)}
    return found


def _section(task: str, pool: Executor) -> Iterator[str]:
    zoo = ZOOS[task]
    columns = COLUMNS if "openvino" in zoo.MODULE.engines else COLUMNS[:-1]
    names = [dtype if engine == "torch" else "OpenVINO" for engine, dtype in columns]
    yield f"## `{task}`\n\n| family | {' | '.join(names)} | reason |\n|---|{'---|' * len(names)}---|\n"
    tried = [family for family in sorted(zoo.FAMILIES) if family not in zoo.EXCEPTIONS]
    cells = [(task, family, *column) for family in tried for column in columns]
    outcomes = list(pool.map(outcome, *zip(*cells, strict=True)))
    for family in tried:
        own, outcomes = outcomes[: len(columns)], outcomes[len(columns) :]
        yield _row(family, names, own)
    for family, reason in sorted(zoo.EXCEPTIONS.items()):
        yield f"| `{family}` |{' |' * len(names)} {reason} |\n"


def _row(family: str, names: list[str], outcomes: list[str]) -> str:
    problem, cells = "", []
    for name, text in zip(names, outcomes, strict=True):
        cell, _, reason = text.partition(": ")
        cells.append(cell)
        if cell != EQUAL and not problem:
            problem = f"{name}: {reason}".replace("|", "\\|")[:200]
    return f"| `{family}` | {' | '.join(cells)} | {problem} |\n"
