"""Efficiency: items per second through the door, against the same network called directly."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import agreement, inprocess, load, models
from benchmarks.cluster import COUNTS, Door
from benchmarks.findings import Findings, Plot
from benchmarks.rounds import in_turn, listed, ratio

if TYPE_CHECKING:
    from benchmarks.bench import Bench

TITLE = "Efficiency: how much of the model's speed reaches the callers"
CLIENTS = (1, 16, 64, 256)
MANY = 64
SAMPLE = 16
MOST_TAIL = 3.0
TRY_S = 1.5


class Case(NamedTuple):
    """A checkpoint served by an engine; the least of the yardstick's rate, and the most of its time alone.

    The yardstick in torch computes in the checkpoint's own float32, and `least_cosine` is to its answers.
    """

    kind: str
    engine: str
    least: float | None
    most_lone: float | None = None
    most_tail: float | None = MOST_TAIL
    dtype: str = "auto"
    clients: Sequence[int] = CLIENTS
    least_cosine: float = agreement.LEAST_COSINE

    @property
    def way(self) -> str:
        return self.engine if self.dtype == "auto" else f"{self.engine}, {self.dtype}"


CASES = {
    "embeddings": Case("embeddings", "torch", 0.85, 1.4),
    "embeddings, engine openvino": Case("embeddings", "openvino", 0.85, 1.4),
    "embeddings, dtype bfloat16": Case(
        "embeddings",
        "torch",
        least=None,
        most_tail=None,
        dtype="bfloat16",
        clients=(1, MANY),
        least_cosine=0.999,
    ),
    "classification": Case("classification", "torch", 0.9),
    "classification, engine openvino": Case("classification", "openvino", 0.9),
}


def measure(bench: "Bench") -> Findings:
    """Each case at 1 to 256 clients, in turn with the network in torch, and as the case has it."""
    findings = Findings("efficiency", TITLE)
    lines: dict[str, list[tuple[float | str, float]]] = {}
    for name, case in CASES.items():
        if case.dtype != "auto" and not inprocess.computes_in(case.dtype):
            findings.notes.append(f"{name}: not measured, this processor does not compute in it.")
            continue
        with ExitStack() as stack:
            yardsticks = {
                way: stack.enter_context(
                    inprocess.yardstick(models.checkpoint(case.kind), COUNTS[case.kind], TRY_S, *built)
                )
                for way, built in {"torch": ("torch", "auto"), case.way: (case.engine, case.dtype)}.items()
            }
            door = stack.enter_context(bench.roster.model(case.kind, case.engine, case.dtype))
            lines[name] = _measure(bench, name, door, yardsticks, findings)
    goals = {f"goal at {MANY} clients, {case.kind}": case.least for case in CASES.values() if case.least}
    findings.plot = Plot(
        "Items per second through the door", "clients", "of those in-process in torch", lines, goals
    )
    return findings


def _measure(
    bench: "Bench", name: str, door: Door, yardsticks: dict[str, inprocess.Yardstick], findings: Findings
) -> list[tuple[float | str, float]]:
    case = CASES[name]
    # With very many clients an answer takes about as long as a run: theirs are longer.
    runs: dict[Any, Callable[[], Any]] = {
        n: partial(door.run, n, bench.seconds * max(1, n // MANY), SAMPLE) for n in case.clients
    }
    for way, yardstick in yardsticks.items():
        runs[way, "rate"] = partial(_at_rest, bench, partial(yardstick.rate, bench.seconds))
        runs[way, "lone"] = partial(_at_rest, bench, partial(yardstick.lone_p50, min(bench.seconds, 3.0)))
    found = in_turn(bench.rounds, runs)
    cosine = _agree(found[MANY], yardsticks["torch"], case.least_cosine)
    if case.dtype != "auto":
        findings.notes.append(
            f"{name}: other answers than those in torch, which are in float32: of {SAMPLE} the least cosine "
            f"to them is {cosine:.5f}. So it has no goals."
        )
    for way, yardstick in yardsticks.items():
        direct = f"in-process in {way}"
        for clients in case.clients if way == "torch" else (MANY,):
            share = ratio([run.rate for run in found[clients]], found[way, "rate"])
            goal = case.least if clients == MANY else None
            findings.at_least(f"{name}: {clients} clients / {direct}, items/s", share, goal)
        lone = ratio([run.p(50) for run in found[1]], found[way, "lone"])
        findings.at_most(f"{name}: p50 of 1 client / one call {direct}", lone, case.most_lone)
        budget = f"batches of {yardstick.fastest.budget} median inputs"
        told = f"{listed(found[way, 'rate'])} items/s; {budget}"
        findings.beside.append((f"{name}, {direct}, {yardstick.fastest.title}", told))
        told = f"one input alone: {1000 * found[way, 'lone'][-1]:.1f} ms"
        findings.beside.append((f"{name}, {direct}, {yardstick.quickest.title}", told))
    tail = ratio([run.p(99) for run in found[MANY]], [run.p(50) for run in found[MANY]])
    findings.at_most(f"{name}: p99 / p50 at {MANY} clients", tail, case.most_tail)
    for clients in case.clients:
        last = found[clients][-1]
        times = f"p50 {1000 * last.p(50):.1f} ms, p99 {1000 * last.p(99):.1f} ms"
        rates = listed([run.rate for run in found[clients]])
        findings.beside.append((f"{name}, {clients} clients", f"{rates} items/s; {times}"))
    return [(n, ratio([run.rate for run in found[n]], found["torch", "rate"]).value) for n in case.clients]


def _at_rest(bench: "Bench", run: Callable[[], float]) -> float:
    with bench.roster.frozen():
        return run()


def _agree(runs: list[load.Run], yardstick: inprocess.Yardstick, least_cosine: float) -> float:
    import orjson

    answers = {place: orjson.loads(body) for place, body in runs[0].answers.items()}
    return agreement.require(answers, yardstick.quickest.answers(SAMPLE), least_cosine)
