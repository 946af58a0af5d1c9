"""Control plane: starting, adding a model to a running cluster, scaling from zero, many models."""

import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx

from benchmarks import load, models
from benchmarks.cluster import CALM_S, NOOP, URL, Roster, bare_serve, requests
from benchmarks.findings import Findings, Plot
from benchmarks.inprocess import Processes
from benchmarks.rounds import between, in_turn, listed, ratio

if TYPE_CHECKING:
    from benchmarks.bench import Bench

TITLE = "Control plane"
SMALL = models.ROOT / "models" / "sentiment"
SIZES = (10, 100, 500)
CLIENTS = 64
MOST_HOT, LEAST_KEPT = 1.3, 0.95
SETTLE_S = 10.0  # with many models a cluster is never as calm as `Roster.calm` waits for
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
# Spare workers have the usual environment: this one starts as every replica did before there were any.
NO_SPARE = {"ray_actor_options": {"runtime_env": {"env_vars": {"ROSTER_BENCHMARK": "no spare worker"}}}}
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

    def hot(**config: Any) -> float:
        model_id = f"hot-{next(number)}"
        roster.calm()
        begin = time.perf_counter()
        roster.add(model_id, SMALL, **config)
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

    cold = partial(hot, deployment=NO_SPARE)
    runs: dict[str, Callable[[], float]] = {"hot": hot, "cold": cold, "zero": from_zero, "bare": bare}
    found = in_turn(bench.rounds, runs)
    roster.remove("from-zero")
    what = "bare Python that imports and loads the same"
    findings.at_most(f"hot add of a small model / {what}", ratio(found["hot"], found["bare"]), MOST_HOT)
    findings.at_most(f"the same without a spare worker / {what}", ratio(found["cold"], found["bare"]))
    findings.at_most(f"scale from zero / {what}", ratio(found["zero"], found["bare"]))
    names = {
        "hot": "hot add",
        "cold": "without a spare worker",
        "zero": "scale from zero",
        "bare": "bare Python",
    }
    for run, name in names.items():
        findings.beside.append((f"{name}, to the first answer", ", ".join(f"{s:.2f} s" for s in found[run])))


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
    """The no-op model's requests per second beside many idle models, each time between two runs without."""
    url = f"{URL}/models/{NOOP}"
    roster.add(NOOP, deployment={"num_replicas": 1})
    roster.wait_for(NOOP)
    once = partial(load.run, url, requests(url, NOOP), CLIENTS, bench.seconds)

    def rate(settle_s: float = CALM_S) -> float:
        roster.calm(settle_s)
        return once().rate

    number = count()
    rates: dict[int, list[float]] = {size: [] for size in SIZES}
    took = {}
    alone = [rate()]
    for _ in range(bench.rounds):
        for size, each in rates.items():
            idle = [f"idle-{next(number)}" for _ in range(size - 1)]
            added = _seconds(partial(_add_idle, roster, idle))
            each.append(rate(SETTLE_S))
            busy = roster.idle_share(2)
            removed = _seconds(partial(roster.remove, *idle))
            took[size] = f"{size - 1} added in {added:.1f} s, removed in {removed:.1f} s; idle {busy:.0%}"
            alone.append(rate())
    roster.remove(NOOP)
    bases = between(alone)
    shares = {
        size: ratio(each, bases[place :: len(SIZES)]) for place, (size, each) in enumerate(rates.items())
    }
    for size, share in shares.items():
        goal = LEAST_KEPT if size == SIZES[-1] else None
        findings.at_least(f"requests/s with {size} models, idle but one / with 1", share, goal)
        told = f"{listed(rates[size])} requests/s; {took[size]}"
        findings.beside.append((f"{size} models, {CLIENTS} clients", told))
    findings.beside.append(
        (f"1 model, before, between and after these, {CLIENTS} clients", f"{listed(alone)} requests/s")
    )
    findings.notes.append("“idle” is the cluster's own use of one processor, asked nothing.")
    findings.plot = Plot(
        "The door with ever more models in its catalog",
        "models",
        "requests per second, relative to 1 model",
        {"no-op model": [(1, 1.0), *((size, share.value) for size, share in shares.items())]},
        {f"goal at {SIZES[-1]} models": LEAST_KEPT},
    )


def _add_idle(roster: Roster, model_ids: list[str]) -> None:
    for model_id in model_ids:
        roster.add(model_id, deployment=IDLE)
    roster.wait_for(*model_ids)


def _seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
