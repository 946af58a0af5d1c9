"""Writes what was found: benchmarks/RESULTS.md, and a plot per question into docs/images/."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.findings import Findings, Plot, table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
IMAGES = ROOT / "docs" / "images"
VERSIONS = ("roster", "ray", "transformers", "torch", "openvino", "starlette", "uvicorn")
CPUINFO = Path("/proc/cpuinfo")
# Of processors, as Linux names them: what a network's products are quick or slow by.
FEATURES = (
    *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
INTRODUCTION = """\
Written by `make bench`. A figure is a ratio within one run: what is compared ran in turn on one machine,
and the median of the rounds counts. The bare numbers beside them say what this machine did that day, and
nothing more. All models have random weights in real architectures and sizes; the load generator runs on the
same processors.
"""


def write(findings: Sequence[Findings]) -> None:
    """Write the results of all questions that were ever asked here, and draw their plots."""
    for one in findings:
        if one.plot:
            draw(one.plot, IMAGES / f"bench_{one.question}.png")
    RESULTS.write_text(document(findings, machine()))


def document(findings: Sequence[Findings], facts: str) -> str:
    """All of RESULTS.md."""
    return "\n".join(["# Results", "", INTRODUCTION, facts, "", *map(_section, findings)])


def machine() -> str:
    """What all of it ran on."""
    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    return (
        f"Machine: {processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, "
        f"{gpus()}. Python {platform.python_version()}, {versions}."
    )


def processor() -> str:
    """Its name, with those of `FEATURES` that it has."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    has = f"{facts.get('flags', '')} {facts.get('features', '')}".split()
    features = ", ".join(feature for feature in FEATURES if feature in has)
    name = facts.get("model name", platform.machine())
    return f"{name} ({features})" if features else name


def gpus() -> str:
    """Those that torch sees here. No question asks for any: replicas get none, and peers are told so."""
    import torch

    names = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    return f"GPUs not used: {', '.join(names)}" if names else "no GPU that torch sees"


def _section(one: Findings) -> str:
    parts = [f"## {one.title}", f"{one.when}, {one.took}."]
    if one.figures:
        parts.append(table(one.figures))
    parts += one.notes
    if one.plot:
        parts.append(f"![{one.plot.title}](../docs/images/bench_{one.question}.png)")
    if one.beside:
        rows = "\n".join(f"| {name} | {value} |" for name, value in one.beside)
        parts.append(f"Beside them:\n\n| | |\n|---|---|\n{rows}")
    return "\n\n".join(parts) + "\n"


def draw(plot: Plot, path: Path) -> None:
    """Draw lines over numbers (on a logarithmic axis), or bars over names."""
    import matplotlib  # type: ignore[import-not-found,unused-ignore]

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.2), dpi=110, layout="constrained")
    names = list(dict.fromkeys(str(x) for points in plot.lines.values() for x, _ in points))
    if all(isinstance(x, str) for points in plot.lines.values() for x, _ in points):
        width = 0.8 / len(plot.lines)
        for place, (label, points) in enumerate(plot.lines.items()):
            places = [names.index(str(x)) + width * (place - (len(plot.lines) - 1) / 2) for x, _ in points]
            bars = axes.bar(places, [y for _, y in points], width * 0.95, label=label)
            axes.bar_label(bars, fmt="%.3g", fontsize=8)
        axes.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names])
    else:
        for label, points in plot.lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks([float(name) for name in names], names)
        axes.minorticks_off()
    for label, goal in plot.goals.items():
        axes.axhline(goal, linestyle="--", linewidth=1, color="grey")
        axes.annotate(label, (0.01, goal), xycoords=("axes fraction", "data"), fontsize=8, va="bottom")
    axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y, ylim=(0, None))
    axes.grid(axis="y", alpha=0.3)
    if len(plot.lines) > 1:
        axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
