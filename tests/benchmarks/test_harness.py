"""Ratios, response checks, findings, RESULTS.md, plots, and servers under test."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import harness, peers
from benchmarks.harness import Findings, Plot, ratio
from benchmarks.server import Server, StartError


def test_interleave_reverses_every_other_round() -> None:
    order: list[str] = []

    def run(name: str) -> Callable[[], int]:
        return lambda: (order.append(name), len(order))[1]

    assert harness.interleave(3, {"a": run("a"), "b": run("b")}) == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert "".join(order) == "abbaab"


def test_ratio_is_the_median_of_the_rounds() -> None:
    assert ratio([10, 30, 20], [10, 10, 10]) == (2, 1, 3)
    with pytest.raises(ValueError, match="shorter"):
        ratio([1, 2], [1])


def test_check_responses_accepts_vectors_and_labels_in_any_nesting() -> None:
    labels = [{"label": "B", "score": 0.2}, {"label": "A", "score": 0.8}]
    harness.check_responses({0: [[0.6, 0.8]], 1: [[*reversed(labels)]]}, [[0.6, 0.8], labels])
    least = harness.check_responses({0: [1.0, 0.02], 1: [1.0, 0.0]}, [[1.0, 0.0]] * 2, 0.999)
    assert least == pytest.approx(0.9998)
    with pytest.raises(harness.Disagreement, match="response 1"):
        harness.check_responses({0: [1.0, 0.0], 1: [0.0, 1.0]}, [[1.0, 0.0], [1.0, 0.0]])
    with pytest.raises(harness.Disagreement, match="no response"):
        harness.check_responses({}, [[1.0]])


def test_check_responses_rejects_another_length() -> None:
    with pytest.raises(harness.Disagreement, match="response 0"):
        harness.check_responses({0: [1.0, 0.0]}, [[1.0]])


def test_measured_settings_measures_each_setting_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness.workload, "home", lambda: tmp_path)
    rates = {"slow": 1.0, "fast": 2.0}
    assert list(harness.measured_settings("peer", rates, rates.__getitem__)) == ["fast", "slow"]
    assert harness.measured_settings("peer", rates, {}.__getitem__) == rates


def some_findings() -> Findings:
    found = Findings(question="overhead", title="Overhead", when="today, 1 s")
    found.add("fast enough", ratio([6, 7, 9], [10, 10, 10]), "≥ 0.6")
    found.add("a | b", 1.5, "≤ 1.2", "note")
    found.add("no goal", 3.0)
    found.figures.append(harness.Figure("peer", "-", "≥ 2", None, "it does not install"))
    found.raw["rate"] = "700/s"
    return found


def test_table_shows_goal_measured_value_and_whether_it_is_met() -> None:
    assert harness.document([some_findings()]).splitlines()[5:11] == [
        "| figure | goal | measured | met | note |",
        "|---|---|---|---|---|",
        "| fast enough | ≥ 0.6 | 0.70 | yes | rounds: 0.60 to 0.90 |",
        "| a / b | ≤ 1.2 | 1.50 | **no** | note |",
        "| no goal |  | 3.00 |  |  |",
        "| peer | ≥ 2 | - |  | it does not install |",
    ]


def test_findings_survive_json() -> None:
    found = some_findings()
    found.plot = Plot("p", "x", "y", {"line": [(1, 2.0)], "bar": [("a", 1.0)]}, {"goal": 0.6})
    assert Findings.model_validate_json(found.model_dump_json()) == found


def test_results_show_figures_before_raw_numbers() -> None:
    found = some_findings()
    found.plot = Plot("A plot", "x", "y", {"line": [(1, 2.0)]})
    broken = Findings(question="peers", title="Against its peers", notes=["Not measured: no memory"])
    text = harness.document([found, broken], "one processor. Python 3.11")
    order = ["# Results", "Machine: one processor. Python 3.11", "roster 0", "## Overhead", "| fast enough |"]
    order += ["bench_overhead.png", "| rate | 700/s |", "## Against its peers", "Not measured: no memory"]
    assert sorted(order, key=text.index) == order


@pytest.mark.parametrize("points", [[(1, 2.0), (16, 3.0)], [("a b", 2.0), ("c", 3.0)]])
def test_draw_writes_lines_and_bars(
    points: list[tuple[int | str, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "IMAGES", tmp_path)
    found = some_findings()
    found.plot = Plot("A plot", "x", "y", {"all": points, "one": points[:1]}, {"goal": 1.0})
    harness.draw(found)
    assert (tmp_path / "bench_overhead.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("info", "processor"), [
    ({"brand_raw": "AMD EPYC", "flags": ["avx512f", "avx2", "rdpid"]}, "AMD EPYC (avx2, avx512f), "),
    ({"flags": ["fp", "bf16", "asimd"]}, "aarch64 (asimd, bf16), "),
    ({"brand_raw": "AMD EPYC"}, "AMD EPYC, "),
])  # fmt: skip
@pytest.mark.parametrize(("names", "gpus"), [
    ([], "no GPU that torch sees"), (["A", "B"], "GPUs not used: A, B"),
])  # fmt: skip
def test_machine_names_instruction_sets_and_gpus(
    info: dict[str, object], processor: str, names: list[str], gpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = SimpleNamespace(device_count=lambda: len(names), get_device_name=names.__getitem__)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(sys.modules, "cpuinfo", SimpleNamespace(get_cpu_info=lambda: info))
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    machine = harness.machine()
    assert machine.startswith(processor)
    assert f"{gpus}. Python 3." in machine


def test_wait_reports_the_last_error_of_a_server_that_does_not_start(tmp_path: Path) -> None:
    server = Server([sys.executable, "-c", "raise SystemExit('no such model')"], tmp_path)
    with pytest.raises(StartError, match="no such model"):
        server.wait(lambda: False)
    server.close()


def test_frozen_server_stops_and_continues(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    code = f"import time\nwhile True: time.sleep(0.01); open({str(beat)!r}, 'a').write('.')"
    server = Server([sys.executable, "-c", code], tmp_path)
    try:
        server.wait(beat.exists)
        with server.frozen():
            (top, *_) = server.processes()
            server.wait(lambda: top.status() == "stopped")
            size = beat.stat().st_size
            threading.Event().wait(0.1)
            assert beat.stat().st_size == size
        server.wait(lambda: beat.stat().st_size > size)
    finally:
        server.close()
    assert server.processes() == []


def test_peers_have_environments_and_ports_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(peers.workload, "home", lambda: tmp_path)
    for peer in peers.PEERS.values():
        (tmp_path / "venvs" / peer.name.replace(" ", "-")).mkdir(parents=True)
    monkeypatch.setattr("subprocess.run", lambda command, **_: commands.append(command))
    folders = [peer.install() for peer in peers.PEERS.values()]
    assert len(set(folders)) == len({peer.port for peer in peers.PEERS.values()}) == len(peers.PEERS)
    pips = commands[1::2]
    assert [command[0] for command in pips] == [str(folder / "bin" / "python") for folder in folders]
    assert [word.partition("==")[0] for word in pips[0][5:]] == [
        "torch",
        "transformers",
        "fastapi",
        "uvicorn[standard]",
    ]
    assert [peer.install() for peer in peers.PEERS.values()] == folders
    assert len(pips) == len(folders), "an environment is made once"


class Frozen(Server):
    """A server that only knows whether it is frozen."""

    def __init__(self, frozen: set[object]) -> None:
        self.others = frozen

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.others.add(self)
        yield
        self.others.remove(self)


def test_compare_freezes_all_servers_but_the_measured_one() -> None:
    frozen: set[object] = set()
    servers = {name: Frozen(frozen) for name in "ab"}
    endpoints: Any = {
        name: SimpleNamespace(server=server, run=lambda n, seconds: (n, seconds, set(frozen)))
        for name, server in servers.items()
    }
    bench = harness.Bench(1.0, 1)
    runs = harness.compare(bench, endpoints, [1, 256], {"bare": lambda: set(frozen)})
    assert runs["bare"] == [set(servers.values())]
    assert runs["a", 1] == [(1, 1.0, {servers["b"]})]
    assert runs["b", 256] == [(256, 4.0, {servers["a"]})]
