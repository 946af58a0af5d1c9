"""Measure efficiency: items per second through the gateway, against the same module called directly."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from benchmarks import baseline, cluster, harness, load

TITLE = "Efficiency: how much of the model's speed reaches the callers"
CLIENTS, MANY = (1, 16, 64, 256), 64
SHARE_GOALS = {"embeddings": 0.85, "classification": 0.9}  # of the baseline's rate, at 64 clients
SINGLE_GOALS = {"embeddings": "≤ 1.4"}  # p50 of one client, to the baseline's time for one input
TAIL_GOAL = "≤ 3"  # p99 to p50, at 64 clients
MIN_COSINES = {"auto": harness.MIN_COSINE, "bfloat16": 0.999}


class Case(NamedTuple):
    """A checkpoint, an engine and a dtype. A case with a dtype has no goals: its responses differ.

    The first baseline is in torch and the checkpoint's own float32; responses are compared with its outputs.
    """

    kind: str
    engine: str = "torch"
    dtype: str = "auto"
    clients: Sequence[int] = CLIENTS

    @property
    def baselines(self) -> dict[str, dict[str, str]]:
        name = self.engine if self.dtype == "auto" else f"{self.engine}, {self.dtype}"
        return {"torch": {}, name: {"engine": self.engine, "dtype": self.dtype}}


CASES = {
    "embeddings": Case("embeddings"),
    "embeddings, engine openvino": Case("embeddings", "openvino"),
    "embeddings, dtype bfloat16": Case("embeddings", dtype="bfloat16", clients=(1, MANY)),
    "classification": Case("classification"),
    "classification, engine openvino": Case("classification", "openvino"),
}
Runs = dict[Any, list[Any]]  # by OWN and number of clients; by baseline and "rate" or "single"
OWN = "Roster"


def measure(bench: harness.Bench, findings: harness.Findings) -> None:
    """Run each case at 1 to 256 clients, in turn with its baselines."""
    lines = {}
    for name, case in CASES.items():
        if case.dtype != "auto" and not cluster.supports(case.dtype):
            findings.notes.append(f"{name}: not measured, this processor does not compute in it.")
            continue
        runs, cosine = measure_case(bench, findings, case, f"{name}, ", "items/s")
        if case.dtype != "auto":
            what = f"the least cosine of {load.SAMPLE} responses to those in torch, in float32, is"
            findings.notes.append(f"{name}: {what} {cosine:.5f}. So it has no goals.")
        _add_figures(name, case, runs, findings)
        lines[name] = [(clients, share(runs, clients).value) for clients in case.clients]
    goals = {f"goal at {MANY} clients, {kind}": goal for kind, goal in SHARE_GOALS.items()}
    title, y = "Items per second through the gateway", "of those in-process in torch"
    findings.plot = harness.Plot(title, "clients", y, lines, goals)


def measure_case(
    bench: harness.Bench, findings: harness.Findings, case: Case, prefix: str, unit: str
) -> tuple[Runs, float]:
    """Run a case in turn with its baselines, the cluster frozen; return also the least cosine to them."""
    ways, calls = {}, {}
    with ExitStack() as stack:
        for name, options in case.baselines.items():
            ways[name] = stack.enter_context(baseline.ways(case.kind, **options))
            for way in ways[name]:
                calls[name, "rate", way] = partial(way.rate, bench.seconds)
                calls[name, "single", way] = partial(way.first, "single_p50", seconds=min(bench.seconds, 3.0))
        endpoint = stack.enter_context(bench.roster.model(case.kind, case.engine, case.dtype))
        runs: Runs = harness.compare(bench, {OWN: endpoint}, case.clients, calls)
        expected = ways["torch"][0].first("responses", count=load.SAMPLE)
        responses = endpoint.responses(runs[OWN, case.clients[-1]][0])
    for name, each in ways.items():  # the better way counts in each round
        label = f"{prefix}in-process in {name}"
        for what, better in (("rate", max), ("single", min)):
            runs[name, what] = list(map(better, zip(*(runs[name, what, way] for way in each), strict=True)))
        fastest = max(each, key=lambda way: runs[name, "rate", way][-1])
        rates = f"{harness.numbers(runs[name, 'rate'])} {unit}; batches of {fastest.budget} median inputs"
        findings.raw[f"{label}, {fastest.title}"] = rates
        findings.raw[f"{label}, one input alone"] = f"{1000 * runs[name, 'single'][-1]:.1f} ms"
    for n in case.clients:
        findings.raw[f"{prefix}{n} clients"] = harness.summary(runs[OWN, n], unit)
    return runs, harness.check_responses(responses, expected, MIN_COSINES[case.dtype])


def share(runs: Runs, clients: int, name: str = "torch") -> harness.Ratio:
    """Return the rate at so many clients relative to a baseline's."""
    return harness.ratio([run.rate for run in runs[OWN, clients]], runs[name, "rate"])


def _add_figures(name: str, case: Case, runs: Runs, findings: harness.Findings) -> None:
    goals = (f"≥ {SHARE_GOALS[case.kind]:g}", SINGLE_GOALS.get(case.kind, ""), TAIL_GOAL)
    share_goal, single_goal, tail_goal = goals if case.dtype == "auto" else ("", "", "")
    for way in case.baselines:
        label = f"in-process in {way}"
        for n in case.clients if way == "torch" else (MANY,):
            goal = share_goal * (n == MANY)
            findings.add(f"{name}: {n} clients / {label}, items/s", share(runs, n, way), goal)
        single = harness.ratio([run.p(50) for run in runs[OWN, 1]], runs[way, "single"])
        findings.add(f"{name}: p50 of 1 client / one call {label}", single, single_goal)
    p99, p50 = ([run.p(percent) for run in runs[OWN, MANY]] for percent in (99, 50))
    findings.add(f"{name}: p99 / p50 at {MANY} clients", harness.ratio(p99, p50), tail_goal)
