"""Control plane: starting, adding a model to a running cluster, scaling from zero, many models."""

import time
from collections.abc import Callable
from functools import partial
from itertools import count
from statistics import median
from typing import TYPE_CHECKING

import httpx

from benchmarks import load, models
from benchmarks.cluster import NOOP, URL, Roster, bare_serve, requests
from benchmarks.findings import Findings, Plot
from benchmarks.inprocess import Processes
from benchmarks.rounds import in_turn, ratio

if TYPE_CHECKING:
    from benchmarks.bench import Bench

TITLE = "Control plane"
SMALL = models.ROOT / "models" / "sentiment"
SIZES = (1, 10, 100, 500)
CLIENTS = 64
MOST_HOT, LEAST_KEPT = 1.3, 0.95
POLL_S = 0.02
ANSWER_S = 60.0
ZERO = {
    "min_replicas": 0,
    "max_replicas": 1,
    "downscale_delay_s": 1,
    "downscale_to_zero_delay_s": 1,
    "look_back_period_s": 1,
    "metrics_interval_s": 0.5,
}
IDLE = {"autoscaling_config": {"min_replicas": 0, "max_replicas": 1}}


def measure(bench: "Bench") -> Findings:
    """Start-up against bare Ray Serve, first answers against bare Python, requests/s by number of models."""
    findings = Findings("control", TITLE)
    bench.end()
    serve_s = bare_serve()
    roster = bench.roster
    findings.at_most("start-up until ready, without models / bare `serve run`", roster.started_s / serve_s)
    findings.beside.append(("start-up", f"Roster {roster.started_s:.1f} s, bare `serve run` {serve_s:.1f} s"))
    _first_answers(bench, roster, findings)
    _many(bench, roster, findings)
    return findings


def _first_answers(bench: "Bench", roster: Roster, findings: Findings) -> None:
    """From a folder that is dropped in, and from no replica at all, to the first answer."""
    number = count()
    roster.add("from-zero", SMALL, deployment={"autoscaling_config": ZERO})
    roster.wait_for("from-zero")

    def hot() -> float:
        model_id = f"hot-{next(number)}"
        roster.calm()
        begin = time.perf_counter()
        roster.add(model_id, SMALL)
        took = _answered(roster, model_id, begin)
        roster.remove(model_id)
        return took

    def from_zero() -> float:
        end = time.monotonic() + ANSWER_S
        while roster.replicas("from-zero") and time.monotonic() < end:
            time.sleep(0.2)
        roster.calm()
        return _answered(roster, "from-zero", time.perf_counter())

    def bare() -> float:
        roster.calm()
        begin = time.perf_counter()
        process = Processes(SMALL, 1, 1, 1)
        took = time.perf_counter() - begin
        process.close()
        return took

    runs: dict[str, Callable[[], float]] = {"hot": hot, "zero": from_zero, "bare": bare}
    found = in_turn(bench.rounds, runs)
    roster.remove("from-zero")
    what = "bare Python that imports and loads the same"
    findings.at_most(f"hot add of a small model / {what}", ratio(found["hot"], found["bare"]), MOST_HOT)
    findings.at_most(f"scale from zero / {what}", ratio(found["zero"], found["bare"]))
    for name, told in (("hot add", "hot"), ("scale from zero", "zero"), ("bare Python", "bare")):
        findings.beside.append((f"{name}, to the first answer", ", ".join(f"{s:.2f} s" for s in found[told])))


def _answered(roster: Roster, model_id: str, begin: float) -> float:
    while time.perf_counter() - begin < ANSWER_S:
        try:
            if roster.http.post(f"/models/{model_id}", json={"inputs": "a"}).status_code == httpx.codes.OK:
                return time.perf_counter() - begin
        except httpx.HTTPError:
            pass
        time.sleep(POLL_S)
    raise TimeoutError(f"{model_id} did not answer within {ANSWER_S:g} s")


def _many(bench: "Bench", roster: Roster, findings: Findings) -> None:
    """The no-op model's requests per second beside ever more idle models, and again when they are gone."""
    url = f"{URL}/models/{NOOP}"
    roster.add(NOOP, deployment={"num_replicas": 1})
    roster.wait_for(NOOP)
    once = partial(load.run, url, requests(url, NOOP), CLIENTS, bench.seconds)

    def rate() -> float:
        roster.calm()
        return median(once().rate for _ in range(bench.rounds))

    idle: list[str] = []
    rates = {}
    for size in SIZES:
        more = [f"idle-{place}" for place in range(len(idle), size - 1)]
        begin = time.perf_counter()
        for model_id in more:
            roster.add(model_id, deployment=IDLE)
        roster.wait_for(*more)
        took = time.perf_counter() - begin
        idle += more
        rates[size] = rate()
        told = f"{rates[size]:.0f} requests/s; {len(more)} added within {took:.1f} s"
        findings.beside.append(
            (f"{size} models, {CLIENTS} clients", f"{told}; idle {roster.idle_share(2):.0%}")
        )
    begin = time.perf_counter()
    roster.remove(*idle)
    findings.beside.append((f"{len(idle)} models removed within", f"{time.perf_counter() - begin:.1f} s"))
    again = rate()
    roster.remove(NOOP)
    findings.beside.append((f"1 model again, {CLIENTS} clients", f"{again:.0f} requests/s"))
    base = (rates[1] + again) / 2
    for size in SIZES[1:]:
        goal = LEAST_KEPT if size == SIZES[-1] else None
        findings.at_least(f"requests/s with {size} models, idle but one / with 1", rates[size] / base, goal)
    findings.notes.append("“idle” is the cluster's own use of one processor, asked nothing.")
    findings.plot = Plot(
        "The door with ever more models in its catalog",
        "models",
        "requests per second, relative to 1 model",
        {"no-op model": [(size, rate / base) for size, rate in rates.items()]},
        {f"goal at {SIZES[-1]} models": LEAST_KEPT},
    )
