"""The in-process baseline, and the figures of the questions."""

import contextlib
import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import baseline, cluster, control, efficiency, load, memory, peers, workload
from benchmarks.harness import Bench, Findings


def imports(calls: str, engine: str = "torch") -> set[str]:
    """Return all that a process of the baseline imports for these calls."""
    options = {"folder": str(control.SMALL), "count": 4, "index": 0, "of": 1, "engine": engine}
    command = [sys.executable, "-X", "importtime", "-m", "benchmarks.baseline", json.dumps(options)]
    done = subprocess.run(command, input=calls, capture_output=True, text=True, check=True, cwd=workload.ROOT)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


@pytest.mark.model
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_baseline_process_does_not_import_ray(engine: str) -> None:
    calls = (["rate", {"seconds": 0, "budget": 2}], ["memory", {}])
    found = imports("".join(json.dumps(call) + "\n" for call in calls), engine)
    assert {"torch", "benchmarks.workload"} < found
    assert not found & {"ray", "grpc", "fastapi"}


@pytest.mark.model
def test_baseline_process_starts_without_making_the_workload() -> None:
    assert "benchmarks.workload" not in imports("")


class Timed(baseline.Processes):
    """Processes with known rates."""

    def __init__(self, share: int, rates: dict[int, float]) -> None:
        self._share, self._rates, self.tried = share, rates, list[int]()

    def rate(self, seconds: float) -> float:
        self.tried.append(self.budget)
        return self._rates[self.budget]


def test_choose_budget_takes_the_fastest_that_the_workload_fills() -> None:
    wide = Timed(1024, {2: 1, 8: 2, 32: 3, 128: 4, 512: 5})
    wide.choose_budget()
    assert (wide.budget, wide.tried) == (512, [8, 32, 128, 512])
    narrow = Timed(100, {2: 1, 8: 3, 32: 2, 100: 2})
    narrow.choose_budget()
    assert (narrow.budget, narrow.tried) == (8, [2, 8, 32, 100])


def test_each_baseline_process_gets_the_workload_s_mixture_of_costs() -> None:
    worker: Any = object.__new__(baseline.Module)
    worker.by_cost = [(cost, cost) for cost in range(1, 41)]
    worker.of = 2
    means = []
    for worker.index in range(2):
        batches: list[list[int]] = []
        worker.run = lambda batch, batches=batches: batches.append(batch) or batch
        worker.rate(0.0, budget=10)
        counted = batches[1:]  # the first is the warm-up
        costs = [cost for batch in counted for cost in batch]
        assert costs == list(range(worker.index + 1, 41, 2))
        assert all(max(batch) * len(batch) <= 10 * 21 for batch in counted)
        means.append(statistics.mean(costs))
    assert means == [20, 21]


class Slowing:
    """A cluster on a machine that becomes a twentieth slower with every run, however many models it has."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.speed = 100.0

    def add(self, model_id: str, **_: Any) -> None:
        assert model_id not in self.held
        self.held.add(model_id)

    def remove(self, *model_ids: str) -> None:
        self.held -= set(model_ids)

    def wait_for(self, *model_ids: str) -> None:
        assert set(model_ids) <= self.held

    def wait_until_idle(self, *_: float) -> None:
        pass

    def idle_share(self, _: float) -> float:
        return 0.2

    def run(self, *_: Any) -> Any:
        self.speed -= 5
        return SimpleNamespace(rate=self.speed)


def test_many_models_figure_ignores_a_machine_that_slows_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    roster: Any = Slowing()
    monkeypatch.setattr(load, "run", roster.run)
    found = Findings(question="control", title="")
    control._many_models(Bench(1.0, 2), roster, found)
    assert [figure.measured for figure in found.figures] == ["1.00", "1.00", "1.00"]
    assert not roster.held


def test_many_models_figure_has_the_spread_of_its_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    roster: Any = Slowing()
    speeds = iter([100, 100, 100, 100, 100, 80, 100, 100, 100, 100, 100, 60, 100])
    monkeypatch.setattr(load, "run", lambda *_: SimpleNamespace(rate=next(speeds)))
    found = Findings(question="control", title="")
    control._many_models(Bench(1.0, 2), roster, found)
    assert found.figures[-1].measured == "0.70"
    assert found.figures[-1].note == "rounds: 0.60 to 0.80"
    assert found.figures[-1].met is False


def test_memory_baseline_uses_batches_as_large_as_the_replica_s(monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[int] = []

    class Bare:
        budget = 1

        def __init__(self, *_: Any) -> None:
            pass

        def rate(self, _: float) -> None:
            budgets.append(self.budget)

        def first(self, method: str) -> dict[str, int]:
            assert method == "memory"
            return {"rss": 100, "pss": 90}

        def close(self) -> None:
            pass

    totals = itertools.cycle([{"inputs": 50, "batches": 50.0}, {"inputs": 350, "batches": 62.0}])
    used = SimpleNamespace(rss=110, pss=100)
    endpoint = SimpleNamespace(url="http://localhost/models/embeddings", run=lambda *_: None)
    roster = SimpleNamespace(
        model=lambda *_, **__: contextlib.nullcontext(endpoint),
        totals=lambda name: next(totals) if name == "embeddings" else {},
        replicas=lambda _: [SimpleNamespace(memory_full_info=lambda: used)],
    )
    monkeypatch.setattr(baseline, "Processes", Bare)
    monkeypatch.setattr(workload, "checkpoint", Path)
    bench: Any = SimpleNamespace(seconds=1.0, roster=roster)
    found = Findings(question="memory", title="")
    memory.measure(bench, found)
    assert budgets == [25, 25]
    assert [figure.measured for figure in found.figures] == ["1.10"] * 4


def test_efficiency_leaves_out_dtypes_that_the_processor_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficiency, "CASES", {"half": efficiency.CASES["embeddings, dtype bfloat16"]})
    monkeypatch.setattr(cluster, "supports", lambda dtype: dtype != "bfloat16")
    monkeypatch.delattr(baseline, "ways")  # no process starts
    found = Findings(question="efficiency", title="")
    efficiency.measure(Bench(), found)
    assert found.notes == ["half: not measured, this processor does not compute in it."]


def test_figures_of_another_dtype_have_no_goals() -> None:
    run = SimpleNamespace(rate=1.0, p=lambda _: 1.0)
    for name, case in efficiency.CASES.items():
        found = Findings(question="efficiency", title="")
        runs: Any = {(efficiency.OWN, n): [run] for n in case.clients} | {
            (way, what): [1.0] for way in case.baselines for what in ("rate", "single")
        }
        efficiency._add_figures(name, case, runs, found)
        assert any(figure.goal for figure in found.figures) == (case.dtype == "auto")


def test_peers_figures_compare_with_the_best_and_the_naive_peer() -> None:
    found = Findings(question="peers", title="")
    rates = {"mosec": [10.0], "naive": [5.0], "Roster": [20.0], peers.HALF: [30.0]}
    peers._report("embeddings", rates, {}, found)
    assert {figure.name: (figure.measured, figure.goal) for figure in found.figures} == {
        f"embeddings: {peers.HALF} / best peer (mosec)": ("3.00", ""),
        "embeddings: Roster / best peer (mosec)": ("2.00", "≥ 2"),
        "embeddings: Roster / pipeline behind FastAPI": ("4.00", "≥ 4"),
    }


@pytest.mark.model
def test_supports_decides_as_roster_does() -> None:
    from deployments.engines.checkpoint import cpu_supports_dtype

    for dtype in ("float32", "bfloat16", "float16"):
        assert cluster.supports(dtype) == cpu_supports_dtype(f"torch.{dtype}")
