"""Measure the gateway's overhead: a model without work, a bare Serve ingress, and Starlette alone."""

import sys
from contextlib import closing
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks import cluster, harness, server, workload

TITLE = "Overhead: what the gateway costs"
PORT, BODY = 8590, b'{"inputs": "a"}'
OWN, BARE, STARLETTE = "Roster, no-op model", "bare Serve ingress", "Starlette on uvicorn"
STARLETTE_URL = f"http://127.0.0.1:{PORT}/"
URLS = {OWN: f"{cluster.URL}/models/{cluster.NOOP}", BARE: cluster.BARE_URL, STARLETTE: STARLETTE_URL}
CLIENTS, MANY = (1, 16, 64), 64
MIN_SHARE, MAX_HOP_MS, MAX_HOP = 0.6, 1.2, 3.0


def measure(bench: harness.Bench, findings: harness.Findings) -> None:
    """Measure the rate at 1 to 64 clients and the latency of one client, of the three in turn."""
    bench.close()
    with closing(_starlette()), closing(cluster.Roster(bare=True)) as roster:
        roster.add(cluster.NOOP, deployment={"num_replicas": 1})
        roster.wait_for(cluster.NOOP)
        roster.wait(lambda: server.responds(cluster.BARE_URL, BODY))
        roster.wait_until_idle()
        endpoints = {name: server.endpoint(roster, url, cluster.NOOP) for name, url in URLS.items()}
        runs = harness.compare(bench, endpoints, CLIENTS)
    _report(runs, findings)


def _report(runs: dict[Any, list[Any]], findings: harness.Findings) -> None:
    rates = {key: [run.rate for run in each] for key, each in runs.items()}
    for name, other, goal in (("bare ingress", BARE, f"≥ {MIN_SHARE}"), ("Starlette alone", STARLETTE, "")):
        share = harness.ratio(rates[OWN, MANY], rates[other, MANY])
        findings.add(f"no-op model / {name}, requests/s at {MANY} clients", share, goal)
    own, bare = ([run.p(50) for run in runs[name, 1]] for name in (OWN, BARE))
    hop = 1000 * median(one - other for one, other in zip(own, bare, strict=True))
    times = harness.ratio(own, bare)
    findings.add("router hop: p50 of 1 client, no-op model / bare ingress", times, f"≤ {MAX_HOP:g}")
    figure = findings.figures[-1]
    figure.measured += f" (+{hop:.2f} ms)"
    figure.goal += f", or ≤ {MAX_HOP_MS:g} ms above"
    figure.met = figure.met or hop <= MAX_HOP_MS
    for (name, clients), each in runs.items():
        findings.raw[f"{name}, {clients} clients"] = harness.summary(each, "requests/s")
    findings.notes.append(f"Gateway, bare ingress: {cluster.ROUTERS} replicas each behind the same proxy.")
    lines = {name: [(clients, fmean(rates[name, clients])) for clients in CLIENTS] for name in URLS}
    findings.plot = harness.Plot("A model that does nothing", "clients", "requests per second", lines)


def _starlette() -> server.Server:
    application = ["bare_ingress:app", "--app-dir", str(Path(__file__).parent), "--port", str(PORT)]
    command = [sys.executable, "-m", "uvicorn", *application, "--no-access-log", "--log-level", "warning"]
    starlette = server.Server(command, workload.home() / "run" / "starlette")
    starlette.wait_or_close(lambda: server.responds(STARLETTE_URL, BODY))
    return starlette
