"""Measure and report: interleaved runs, ratios with goals, checked responses, plots, and RESULTS.md."""

import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import field
from functools import cached_property, partial
from importlib import metadata
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jinja2
import numpy
import psutil
from pydantic import BaseModel
from pydantic.dataclasses import dataclass

from benchmarks import cluster, load, workload
from benchmarks.server import Endpoint, Server

MIN_COSINE, SETTINGS = 0.9999, "settings.json"
RESULTS = Path(__file__).with_name("RESULTS.md")
IMAGES = workload.ROOT / "docs" / "images"
# Instruction sets that decide the speed of matrix products, by the names that Linux gives them.
X86 = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")
ARM = ("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme")


@dataclass
class Bench:
    """How to measure: `seconds` per point, `rounds`, `alone` without Roster; `roster` starts at first use."""

    seconds: float = 4.0
    rounds: int = 3
    alone: bool = False

    @cached_property
    def roster(self) -> cluster.Roster:
        return cluster.Roster()

    def close(self) -> None:
        if roster := self.__dict__.pop("roster", None):
            roster.close()


class Ratio(NamedTuple):
    """The median, the least and the greatest of the rounds' ratios."""

    value: float
    least: float
    most: float


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Divide round by round."""
    each = [one / other for one, other in zip(numerators, denominators, strict=True)]
    return Ratio(median(each), min(each), max(each))


def interleave(rounds: int, runs: Mapping[Any, Callable[[], Any]]) -> dict[Any, list[Any]]:
    """Call each of `runs` once per round, A B B A: a machine's speed changes from minute to minute."""
    results: dict[Any, list[Any]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            results[name].append(runs[name]())
    return results


def compare(
    bench: Bench, endpoints: Mapping[str, Endpoint], clients: Sequence[int], others: Mapping[Any, Any] = {}
) -> dict[Any, list[Any]]:
    """Interleave `others` and runs of all endpoints, during which the servers of the rest are frozen."""
    servers = {endpoint.server for endpoint in endpoints.values()}

    def alone(own: Server | None, call: Callable[[], Any]) -> Any:
        with ExitStack() as stack:
            for server in servers - {own}:
                stack.enter_context(server.frozen())
            return call()

    calls = {key: partial(alone, None, call) for key, call in others.items()}
    for n, (name, endpoint) in product(clients, endpoints.items()):
        seconds = bench.seconds * max(1, n // 64)  # with very many clients a response takes as long as a run
        calls[name, n] = partial(alone, endpoint.server, partial(endpoint.run, n, seconds))
    return interleave(bench.rounds, calls)


def numbers(rates: Sequence[float]) -> str:
    """Format rates."""
    return ", ".join(f"{rate:.{1 if rate < 100 else 0}f}" for rate in rates)


def summary(runs: Sequence[load.Run], unit: str) -> str:
    """Format the rounds' rates, and the last round's latency and the processor share of its generator."""
    p50, p99 = (1000 * runs[-1].p(percent) for percent in (50, 99))
    share = f"load generator: {runs[-1].cpu_s / runs[-1].seconds:.0%} of a processor"
    return f"{numbers([run.rate for run in runs])} {unit}; p50 {p50:.2f} ms, p99 {p99:.2f} ms; {share}"


class Disagreement(Exception):
    """A server's response differs from the expected one."""


def check_responses(responses: dict[int, Any], expected: list[Any], least: float = MIN_COSINE) -> float:
    """Compare each response with the expected one of its index; return the least cosine.

    A response is a vector, or labels with scores, nested in any number of lists. Raises `Disagreement`.
    """
    cosines = []
    for index in sorted(responses.keys() & set(range(len(expected)))):
        a, b = _vector(responses[index]), _vector(expected[index])
        lengths = numpy.linalg.norm(a) * numpy.linalg.norm(b)
        cosines.append(float(numpy.dot(a, b) / lengths) if len(a) == len(b) else 0.0)
        if cosines[-1] <= least:
            raise Disagreement(f"response {index} has a cosine of {cosines[-1]:.5f} to the expected one")
    if not cosines:
        raise Disagreement("there is no response to compare")
    return min(cosines)


def _vector(response: Any) -> list[float]:
    flat = numpy.array(response, dtype=object).ravel()
    if isinstance(flat[0], Mapping):
        return [label["score"] for label in sorted(flat, key=lambda label: label["label"])]
    return [float(number) for number in flat]


def measured_settings(key: str, settings: Iterable[str], rate: Callable[[str], float]) -> dict[str, float]:
    """Return the rate of each setting, fastest first. `.bench/settings.json` keeps what was measured."""
    path = workload.home() / SETTINGS
    known = json.loads(path.read_text()) if path.exists() else {}
    if known.get(key, {}).keys() != set(settings):
        known[key] = {setting: round(rate(setting), 1) for setting in settings}
        path.write_text(json.dumps(known, indent=1))
    return dict(sorted(known[key].items(), key=lambda pair: -pair[1]))


@dataclass
class Figure:
    """One line of the table. `met` is None where there is no goal or no measurement."""

    name: str
    measured: str
    goal: str = ""
    met: bool | None = None
    note: str = ""


@dataclass
class Plot:
    """Lines over numbers, or bars over names; `goals` are horizontal lines, by their names."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[int | str, float]]]
    goals: dict[str, float] = field(default_factory=dict)


class Findings(BaseModel):
    """The results of one question: figures with their goals, and `raw` numbers for context."""

    question: str
    title: str
    figures: list[Figure] = []
    raw: dict[str, str] = {}
    notes: list[str] = []
    plot: Plot | None = None
    when: str = ""

    def add(self, name: str, value: Ratio | float, goal: str = "", note: str = "") -> None:
        """Add a ratio and its goal, such as "≥ 0.6" or "≤ 3"."""
        if isinstance(value, Ratio):
            spread = f"rounds: {value.least:.2f} to {value.most:.2f}" if value.least != value.most else ""
            note, value = "; ".join(filter(None, [spread, note])), value.value
        sign, _, limit = goal.partition(" ")
        met = (value >= float(limit) if sign == "≥" else value <= float(limit)) if goal else None
        self.figures.append(Figure(name, f"{value:.2f}", goal, met, note))


def write(paths: Sequence[Path]) -> None:
    """Write RESULTS.md and draw the plots of saved findings."""
    results = [Findings.model_validate_json(path.read_text()) for path in paths]
    RESULTS.write_text(document(results, machine()))
    for one in results:
        draw(one)


def document(results: Sequence[Findings], machine: str = "") -> str:
    """Return RESULTS.md as text; without `machine`, only the sections of `results`."""
    layout = jinja2.Template(RESULTS.with_suffix(".md.j2").read_text(), keep_trailing_newline=True)
    return str(layout.render(results=results, machine=machine, version=metadata.version)).rstrip() + "\n"


def machine() -> str:
    """Describe the machine. No question uses its GPUs: neither replicas nor peers get one."""
    import cpuinfo  # type: ignore[import-untyped]
    import torch

    info, memory = cpuinfo.get_cpu_info(), psutil.virtual_memory().total / 2**30
    features = ", ".join(feature for feature in X86 + ARM if feature in info.get("flags", ()))
    processor = info.get("brand_raw", platform.machine()) + f" ({features})" * bool(features)
    gpus = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    gpus = f"GPUs not used: {gpus}" if gpus else "no GPU that torch sees"
    system = f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, {gpus}"
    return f"{processor}, {system}. Python {platform.python_version()}"


def draw(findings: Findings) -> None:
    """Draw the plot into docs/images/: lines over numbers (on a logarithmic axis), or bars over names."""
    import pandas
    from matplotlib.figure import Figure as Canvas

    if not (plot := findings.plot):
        return
    canvas = Canvas(figsize=(8, 4.2), dpi=110, layout="constrained")
    axes: Any = canvas.subplots()
    frame = pandas.DataFrame({label: dict(points) for label, points in plot.lines.items()})
    if isinstance(frame.index[0], str):
        frame.rename(lambda name: name.replace(" ", "\n")).plot.bar(ax=axes, rot=0)
        for bars, label in zip(axes.containers, frame, strict=True):
            values = [f"{value:.3g}" if pandas.notna(value) else "" for value in frame[label]]
            axes.bar_label(bars, values, fontsize=8)
    else:
        for label, series in frame.items():
            series.dropna().plot(ax=axes, logx=True, marker="o", label=label)
        axes.set_xticks(frame.index, frame.index)
        axes.minorticks_off()
    for label, goal in plot.goals.items():
        axes.axhline(goal, linestyle="--", linewidth=1, color="grey")
        axes.annotate(label, (0.01, goal), xycoords=("axes fraction", "data"), fontsize=8, va="bottom")
    axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y, ylim=(0, None))
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8).set_visible(len(plot.lines) > 1)
    canvas.savefig(IMAGES / f"bench_{findings.question}.png")
