"""What a question found out: figures that are ratios within one run, and the bare numbers beside them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.rounds import Ratio


@dataclass(frozen=True)
class Figure:
    """One line of the table. `met` is None where there is no goal, or nothing to hold against it."""

    name: str
    measured: str
    goal: str = ""
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Plot:
    """Lines over numbers, or bars over names; `goals` are drawn across, by their names."""

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float | str, float]]]
    goals: dict[str, float] = field(default_factory=dict)


@dataclass
class Findings:
    """The answer to one question. `beside` holds bare numbers: context, not results."""

    question: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    beside: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plot: Plot | None = None
    when: str = ""
    took: str = ""

    def at_least(self, name: str, value: Ratio | float, goal: float | None = None, note: str = "") -> None:
        """A ratio of which more is better."""
        self._add(name, value, "≥", goal, note)

    def at_most(self, name: str, value: Ratio | float, goal: float | None = None, note: str = "") -> None:
        """A ratio of which less is better."""
        self._add(name, value, "≤", goal, note)

    def _add(self, name: str, value: Ratio | float, sign: str, goal: float | None, note: str) -> None:
        found = value.value if isinstance(value, Ratio) else value
        if isinstance(value, Ratio) and value.least != value.most:
            note = "; ".join(filter(None, [f"rounds: {value.spread}", note]))
        met = None if goal is None else bool(found >= goal if sign == "≥" else found <= goal)
        self.figures.append(Figure(name, f"{found:.2f}", f"{sign} {goal:g}" if goal else "", met, note))

    def unknown(self, name: str, goal: str, note: str) -> None:
        """A figure that could not be measured, and why."""
        self.figures.append(Figure(name, "-", goal, None, note))

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False))


def read(path: Path) -> Findings:
    """Findings as they were saved."""
    told: dict[str, Any] = json.loads(path.read_text())
    plot = told.pop("plot")
    figures = [Figure(**figure) for figure in told.pop("figures")]
    return Findings(**told, figures=figures, plot=Plot(**plot) if plot else None)


def failed(question: str, title: str, error: BaseException) -> Findings:
    """What is left of a question that broke off."""
    return Findings(question, title, notes=[f"Not measured: {type(error).__name__}: {error}"])


def table(figures: Sequence[Figure]) -> str:
    """A Markdown table of figures."""
    lines = ["| figure | goal | measured | met | note |", "|---|---|---|---|---|"]
    told = {True: "yes", False: "**no**", None: ""}
    for one in figures:
        cells = (one.name, one.goal, one.measured, told[one.met], one.note)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)
