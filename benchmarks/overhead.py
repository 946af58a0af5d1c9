"""Overhead: what the door costs. A model that does nothing, a bare Serve ingress, Starlette alone."""

import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import load, models
from benchmarks.cluster import BARE, NOOP, ROUTERS, URL, Roster, requests
from benchmarks.findings import Figure, Findings, Plot
from benchmarks.rounds import in_turn, ratio
from benchmarks.server import Server, answers

if TYPE_CHECKING:
    from benchmarks.bench import Bench

TITLE = "Overhead: what the door costs"
RAW_PORT = 8590
RAW = f"http://127.0.0.1:{RAW_PORT}/"
BODY = b'{"inputs": "a"}'
CLIENTS = (1, 16, 64)
MANY = 64
LEAST_SHARE = 0.6
MOST_HOP_MS, MOST_HOP = 1.2, 3.0


def measure(bench: "Bench") -> Findings:
    """Requests per second at 64 clients and the median latency of one client, of the three in turn."""
    bench.end()
    with closing(_raw()), closing(Roster(bare=True)) as roster:
        roster.add(NOOP, deployment={"num_replicas": 1})
        roster.wait_for(NOOP)
        roster.wait(lambda: answers(BARE, BODY))
        roster.calm()
        urls = {
            "Roster, no-op model": f"{URL}/models/{NOOP}",
            "bare Serve ingress": BARE,
            "Starlette on uvicorn": RAW,
        }
        found = {
            clients: in_turn(
                bench.rounds,
                {
                    name: partial(load.run, url, requests(url, NOOP), clients, bench.seconds)
                    for name, url in urls.items()
                },
            )
            for clients in CLIENTS
        }
    return _tell(found)


def _tell(found: dict[int, dict[str, list[load.Run]]]) -> Findings:
    findings = Findings("overhead", TITLE)
    own, bare, raw = found[MANY]
    rates = {name: [run.rate for run in runs] for name, runs in found[MANY].items()}
    findings.at_least(
        f"no-op model / bare ingress, requests/s at {MANY} clients",
        ratio(rates[own], rates[bare]),
        LEAST_SHARE,
    )
    findings.at_least(
        f"no-op model / Starlette alone, requests/s at {MANY} clients", ratio(rates[own], rates[raw])
    )
    lone = {name: [run.p(50) for run in runs] for name, runs in found[1].items()}
    times = ratio(lone[own], lone[bare])
    hops = sorted(1000 * (one - other) for one, other in zip(lone[own], lone[bare], strict=True))
    hop = hops[len(hops) // 2]
    findings.figures.append(
        Figure(
            "router hop: p50 of 1 client, no-op model / bare ingress",
            f"{times.value:.2f} (+{hop:.2f} ms)",
            f"≤ {MOST_HOP:g}, or ≤ {MOST_HOP_MS:g} ms above",
            times.value <= MOST_HOP or hop <= MOST_HOP_MS,
            f"rounds: {times.spread}",
        )
    )
    findings.beside += [
        (f"{name}, {clients} clients", _line(runs))
        for clients, by_name in found.items()
        for name, runs in by_name.items()
    ]
    findings.notes.append(f"Gateway and bare ingress have {ROUTERS} replicas each behind the same proxy.")
    lines: dict[str, list[tuple[float | str, float]]] = {
        name: [
            (clients, sum(run.rate for run in found[clients][name]) / len(found[clients][name]))
            for clients in CLIENTS
        ]
        for name in (own, bare, raw)
    }
    findings.plot = Plot("A model that does nothing", "clients", "requests per second", lines)
    return findings


def _line(runs: list[load.Run]) -> str:
    rates = ", ".join(f"{run.rate:.0f}" for run in runs)
    last = runs[-1]
    times = f"p50 {1000 * last.p(50):.2f} ms, p99 {1000 * last.p(99):.2f} ms"
    return f"{rates} requests/s; {times}; load generator: {last.own_share:.0%} of a processor"


def _raw() -> Server:
    command = [sys.executable, "-m", "uvicorn", "bare_ingress:app", "--app-dir", str(Path(__file__).parent)]
    home = models.home() / "run"
    home.mkdir(exist_ok=True)
    server = Server(
        [*command, "--port", str(RAW_PORT), "--no-access-log", "--log-level", "warning"],
        home / "raw.log",
        home,
    )
    try:
        server.wait(lambda: answers(RAW, BODY))
    except BaseException:
        server.close()
        raise
    return server
