"""What figures are held against: bare processes, budgets, a base in turn, peers; and what the report says."""

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

from benchmarks import (
    agreement,
    control,
    efficiency,
    inprocess,
    load,
    memory,
    models,
    peers,
    report,
    venvs,
)
from benchmarks.bench import Bench
from benchmarks.findings import Findings
from benchmarks.peer import PEERS


def imports(told: str, engine: str = "torch") -> set[str]:
    """All that a bare process imports that is told this."""
    command = [sys.executable, "-X", "importtime", "-m", "benchmarks.inprocess", str(control.SMALL), "4"]
    done = subprocess.run(
        [*command, engine, "auto"], input=told, capture_output=True, text=True, check=True, cwd=inprocess.ROOT
    )
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


@pytest.mark.model
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_bare_process_imports_nothing_of_ray(engine: str) -> None:
    work = {"do": "rate", "seconds": 0, "budget": 2, "place": 0, "share": 1}
    told = "".join(json.dumps(one) + "\n" for one in (work, {"do": "memory"}))
    found = imports(told, engine)
    assert {"torch", "benchmarks.texts"} < found
    assert not found & {"ray", "grpc", "fastapi"}


@pytest.mark.model
def test_what_a_bare_process_takes_to_start_is_not_the_making_of_the_workload() -> None:
    assert "benchmarks.texts" not in imports("")


class Timed(inprocess.Processes):
    """Processes whose rates are known."""

    def __init__(self, share: int, rates: dict[int, float]) -> None:
        self._share, self._rates, self.asked = share, rates, list[int]()

    def rate(self, seconds: float) -> float:
        self.asked.append(self.budget)
        return self._rates[self.budget]


def test_the_yardstick_s_budget_is_the_best_of_all_that_the_workload_fills() -> None:
    wide = Timed(1024, {2: 1, 8: 2, 32: 3, 128: 4, 512: 5})
    wide.choose_budget(1)
    assert (wide.budget, wide.asked) == (512, [8, 32, 128, 512])
    narrow = Timed(100, {2: 1, 8: 3, 32: 2, 100: 2})
    narrow.choose_budget(1)
    assert (narrow.budget, narrow.asked) == (8, [2, 8, 32, 100])


def test_each_process_of_a_yardstick_has_the_workload_s_mixture() -> None:
    worker: Any = object.__new__(inprocess._Worker)
    worker.sorted = [(cost, cost) for cost in range(1, 41)]
    means = []
    for place in range(2):
        batches: list[list[int]] = []
        worker.answer = lambda batch, batches=batches: batches.append(batch) or batch
        worker.rate(0.0, budget=10, place=place, share=2)
        counted = batches[1:]  # the first is to warm up
        costs = [cost for batch in counted for cost in batch]
        assert costs == list(range(place + 1, 41, 2))
        assert all(max(batch) * len(batch) <= 10 * 21 for batch in counted)
        means.append(statistics.mean(costs))
    assert means == [20, 21]


class Slowing:
    """A cluster on a machine that is a twentieth slower with every run, whatever the cluster holds."""

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

    def calm(self, *_: float) -> None:
        pass

    def idle_share(self, _: float) -> float:
        return 0.2

    def run(self, *_: Any) -> Any:
        self.speed -= 5
        return SimpleNamespace(rate=self.speed)


def test_a_machine_that_slows_down_is_not_taken_for_the_cost_of_many_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster: Any = Slowing()
    monkeypatch.setattr(load, "run", cluster.run)
    found = Findings("control", "")
    control._many(Bench(1.0, 2), cluster, found)
    assert [figure.measured for figure in found.figures] == ["1.00", "1.00", "1.00"]
    assert not cluster.held


def test_a_cost_of_many_models_is_told_with_its_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster: Any = Slowing()
    speeds = iter([100, 100, 100, 100, 100, 80, 100, 100, 100, 100, 100, 60, 100])
    monkeypatch.setattr(load, "run", lambda *_: SimpleNamespace(rate=next(speeds)))
    found = Findings("control", "")
    control._many(Bench(1.0, 2), cluster, found)
    assert found.figures[-1].measured == "0.70"
    assert found.figures[-1].note == "rounds: 0.60 to 0.80"
    assert found.figures[-1].met is False


def test_a_bare_process_s_batches_are_as_large_as_the_replica_s(monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[int] = []

    class Bare:
        budget = 1

        def __init__(self, *_: Any) -> None:
            pass

        def rate(self, _: float) -> None:
            worked.append(self.budget)

        def memory(self) -> dict[str, int]:
            return {"rss": 100, "pss": 90}

        def close(self) -> None:
            pass

    totals = itertools.cycle([{"inputs": 50, "batches": 50.0}, {"inputs": 350, "batches": 62.0}])
    taken = SimpleNamespace(rss=110, pss=100)
    door = SimpleNamespace(name="embeddings", run=lambda *_: None)
    roster = SimpleNamespace(
        model=lambda *_, **__: contextlib.nullcontext(door),
        totals=lambda _: next(totals),
        replicas=lambda _: [SimpleNamespace(memory_full_info=lambda: taken)],
    )
    monkeypatch.setattr(memory, "Processes", Bare)
    monkeypatch.setattr(models, "checkpoint", Path)
    bench: Any = SimpleNamespace(seconds=1.0, roster=roster)
    found = memory.measure(bench)
    assert worked == [25, 25]
    assert [figure.measured for figure in found.figures] == ["1.10"] * 4


CPUINFO = """\
processor\t: 0
model name\t: AMD EPYC
flags\t\t: fpu avx2 avx512f avx512_bf16 rdpid
"""
ARM = """\
processor\t: 0
Features\t: fp asimd bf16 sve
"""


@pytest.mark.parametrize(("told", "processor"), [
    (CPUINFO, "AMD EPYC (avx2, avx512f, avx512_bf16)"),
    (ARM, "aarch64 (asimd, bf16, sve)"),
    (CPUINFO.replace("avx", ""), "AMD EPYC"),
])  # fmt: skip
def test_the_report_names_what_decides_a_processor_s_speed(
    told: str, processor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(told)
    monkeypatch.setattr(report, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert report.processor() == processor


def test_a_processor_without_cpuinfo_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr("platform.processor", lambda: "arm")
    assert report.processor() == "arm"


@pytest.mark.parametrize(("names", "told"), [
    ([], "no GPU that torch sees"), (["A", "B"], "GPUs not used: A, B"),
])  # fmt: skip
def test_the_report_names_the_gpus_that_there_are(
    names: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = SimpleNamespace(device_count=lambda: len(names), get_device_name=names.__getitem__)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert report.gpus() == told
    assert f"{told}. Python 3." in report.machine()
    assert "openvino 2" in report.machine()


def test_every_peer_has_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(venvs, "python", lambda name, _: Path(f"/{name}/python"))

    def run(command: list[str]) -> str:
        asked.append(command)
        return "told\n"

    monkeypatch.setattr(venvs, "_run", run)
    assert [venvs.installed(peer.name, peer.requirements) for peer in PEERS] == ["told"] * len(PEERS)
    assert [command[0] for command in asked] == [f"/{peer.name}/python" for peer in PEERS]
    assert asked[0][3:] == ["torch", "transformers", "fastapi", "uvicorn"]


def test_a_dtype_that_the_processor_does_not_compute_in_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficiency, "CASES", {"half": efficiency.CASES["embeddings, dtype bfloat16"]})
    monkeypatch.setattr(inprocess, "computes_in", lambda dtype: dtype != "bfloat16")
    monkeypatch.delattr(inprocess, "yardstick")  # nothing is started
    assert efficiency.measure(Bench()).notes == ["half: not measured, this processor does not compute in it."]


def test_what_answers_otherwise_has_no_goal() -> None:
    for case in efficiency.CASES.values():
        if case.least_cosine != agreement.LEAST_COSINE:
            assert (case.least, case.most_lone, case.most_tail) == (None, None, None)
    told = Findings("peers", "")
    rates = {"mosec": [10.0], "naive": [5.0], "Roster": [20.0], peers.HALF: [30.0]}
    peers._tell("embeddings", rates, {}, told)
    goals = {figure.name: (figure.measured, figure.goal) for figure in told.figures}
    assert goals == {
        f"embeddings: {peers.HALF} / best peer (mosec)": ("3.00", ""),
        "embeddings: Roster / best peer (mosec)": ("2.00", "≥ 2"),
        "embeddings: Roster / pipeline behind FastAPI": ("4.00", "≥ 4"),
    }


@pytest.mark.model
def test_whether_the_processor_computes_in_a_dtype_is_asked_of_roster() -> None:
    from deployments.engines.checkpoint import cpu_supports_dtype

    for dtype in ("float32", "bfloat16", "float16"):
        assert inprocess.computes_in(dtype) == cpu_supports_dtype(f"torch.{dtype}")
