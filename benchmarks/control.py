"""Measure the control plane: starting, adding a model, scaling from zero, many models."""

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import count, pairwise
from statistics import fmean
from typing import Any

from benchmarks import baseline, cluster, harness, server, workload

TITLE = "Control plane"
SMALL = workload.ROOT / "models" / "sentiment"
SIZES, CLIENTS = (10, 100, 500), 64
MAX_HOT, MIN_KEPT = 1.3, 0.95
SETTLE_S = 10.0  # with many models a cluster never becomes as idle as `wait_until_idle` expects
LIMITS = {"min_replicas": 0, "max_replicas": 1}
DELAYS = {"downscale_delay_s": 1, "downscale_to_zero_delay_s": 1, "look_back_period_s": 1}
ZERO = {**LIMITS, **DELAYS, "metrics_interval_s": 0.5}
# Warm workers have the usual environment. A replica with another one starts without them.
COLD = {"ray_actor_options": {"runtime_env": {"env_vars": {"ROSTER_BENCHMARK": "no warm worker"}}}}
IDLE = {"autoscaling_config": LIMITS}


def measure(bench: harness.Bench, findings: harness.Findings) -> None:
    """Compare start-up with bare Ray Serve, first responses with bare Python, rates by number of models."""
    bench.close()
    serve_s, roster = cluster.bare_serve(), bench.roster  # one after the other: they use the same ports
    findings.add("start-up until ready, without models / bare `serve run`", roster.started_s / serve_s)
    findings.raw["start-up"] = f"Roster {roster.started_s:.1f} s, bare `serve run` {serve_s:.1f} s"
    _first_responses(bench, roster, findings)
    _many_models(bench, roster, findings)


def _first_responses(bench: harness.Bench, roster: cluster.Roster, findings: harness.Findings) -> None:
    """Measure from a new folder, and from a model without replicas, to the first response."""
    roster.add("from-zero", SMALL, deployment={"autoscaling_config": ZERO})
    roster.wait_for("from-zero")
    number = count()
    calls: dict[str, Callable[[], float]] = {
        "hot add": lambda: _add(roster, f"hot-{next(number)}"),
        "without a spare worker": lambda: _add(roster, f"hot-{next(number)}", deployment=COLD),
        "scale from zero": partial(_from_zero, roster),
        "bare Python": partial(_bare, roster),
    }
    found = harness.interleave(bench.rounds, calls)
    roster.remove("from-zero")
    names = ("hot add of a small model", "the same without a spare worker", "scale from zero")
    for name, goal, each in zip(names, (f"≤ {MAX_HOT}", "", ""), found.values(), strict=False):
        share = harness.ratio(each, found["bare Python"])
        findings.add(f"{name} / bare Python that imports and loads the same", share, goal)
    for name, each in found.items():
        findings.raw[f"{name}, to the first response"] = ", ".join(f"{seconds:.2f} s" for seconds in each)


def _add(roster: cluster.Roster, model_id: str, **config: Any) -> float:
    roster.wait_until_idle()
    begin = time.perf_counter()
    roster.add(model_id, SMALL, **config)
    elapsed = _respond(roster, model_id, begin)
    roster.remove(model_id)
    return elapsed


def _from_zero(roster: cluster.Roster) -> float:
    roster.wait(lambda: not roster.replicas("from-zero"), "without replicas")
    roster.wait_until_idle()
    return _respond(roster, "from-zero", time.perf_counter())


def _bare(roster: cluster.Roster) -> float:
    roster.wait_until_idle()
    begin = time.perf_counter()
    with closing(baseline.Processes(SMALL, 1)):
        return time.perf_counter() - begin


def _respond(roster: cluster.Roster, model_id: str, begin: float) -> float:
    url = f"{cluster.URL}/models/{model_id}"
    roster.wait(lambda: server.responds(url, b'{"inputs": "a"}'), "responding", poll_s=0.02)
    return time.perf_counter() - begin


def _many_models(bench: harness.Bench, roster: cluster.Roster, findings: harness.Findings) -> None:
    """Measure the no-op model beside many idle models, each time between two runs without them."""
    roster.add(cluster.NOOP, deployment={"num_replicas": 1})
    roster.wait_for(cluster.NOOP)
    noop = server.endpoint(roster, f"{cluster.URL}/models/{cluster.NOOP}", cluster.NOOP)

    def rate(settle_s: float = cluster.IDLE_S) -> float:
        roster.wait_until_idle(settle_s)
        return noop.run(CLIENTS, bench.seconds).rate

    rates: dict[int, list[float]] = {size: [] for size in SIZES}
    changes, single, number = dict[int, str](), [rate()], count()
    for _ in range(bench.rounds):
        for size, each in rates.items():
            idle = [f"idle-{next(number)}" for _ in range(size - 1)]
            begin = time.perf_counter()
            for model_id in idle:
                roster.add(model_id, deployment=IDLE)
            roster.wait_for(*idle)
            added = time.perf_counter() - begin
            each.append(rate(SETTLE_S))
            share, begin = roster.idle_share(2), time.perf_counter()
            roster.remove(*idle)
            removed = time.perf_counter() - begin
            changes[size] = f"{size - 1} added in {added:.1f} s, removed in {removed:.1f} s; idle {share:.0%}"
            single.append(rate())
    roster.remove(cluster.NOOP)
    _report(findings, rates, changes, single)


def _report(
    findings: harness.Findings, rates: dict[int, list[float]], changes: dict[int, str], single: list[float]
) -> None:
    points, bases = [(1, 1.0)], list(map(fmean, pairwise(single)))  # at the times of the runs in between
    for index, (size, each) in enumerate(rates.items()):
        share = harness.ratio(each, bases[index :: len(SIZES)])
        goal = f"≥ {MIN_KEPT}" if size == SIZES[-1] else ""
        findings.add(f"requests/s with {size} models, idle but one / with 1", share, goal)
        text = f"{harness.numbers(each)} requests/s; {changes[size]}"
        findings.raw[f"{size} models, {CLIENTS} clients"] = text
        points.append((size, share.value))
    label = f"1 model, before, between and after these, {CLIENTS} clients"
    findings.raw[label] = f"{harness.numbers(single)} requests/s"
    findings.notes.append("“idle” is the share of one processor that the cluster takes without requests.")
    title, y = "The gateway by number of models", "requests per second, relative to 1 model"
    goals = {f"goal at {SIZES[-1]} models": MIN_KEPT}
    findings.plot = harness.Plot(title, "models", y, {"no-op model": points}, goals)
