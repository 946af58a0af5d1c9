"""Against its peers: the same checkpoint and texts, each server with the batching that suits it best here."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import agreement, load, models, tried, venvs
from benchmarks.cluster import ROSTERS
from benchmarks.findings import Findings, Plot
from benchmarks.inprocess import CORES, Processes, computes_in
from benchmarks.peer import NAIVE, PEERS, SAMPLE, Peer, Setting
from benchmarks.rounds import in_turn, listed, ratio
from benchmarks.server import Server, StartError, frozen

if TYPE_CHECKING:
    from benchmarks.bench import Bench

TITLE = "Against its peers"
CLIENTS = 64
GOALS = {"embeddings": (2.0, 4.0), "classification": (1.5, None)}  # against the best peer, and the naive one
HALF, HALF_KIND = "Roster, dtype bfloat16", "embeddings"  # has no goal: its answers are not the peers'
TRY_S = 4.0


def measure(bench: "Bench") -> Findings:
    """Each peer's best setting first (tried once on a machine), then all of them and Roster in turn."""
    findings = Findings("peers", TITLE)
    shares: dict[str, list[tuple[float | str, float]]] = {}
    versions: dict[str, str] = {}
    for kind in GOALS:
        yardstick = Processes(models.checkpoint(kind), SAMPLE, 1, CORES)
        expected = yardstick.answers(SAMPLE)
        yardstick.close()
        chosen = _choose(kind, expected, findings)
        versions |= {peer.name: venvs.installed(peer.name, peer.requirements) for peer in chosen}
        shares[kind] = _compare(bench, kind, chosen, expected, findings)
    findings.beside += [(f"{name}, versions", told) for name, told in versions.items()]
    findings.plot = Plot(
        f"{CLIENTS} clients, mixed short texts", "", "items per second, relative to the best", shares
    )
    return findings


def _choose(kind: str, expected: Sequence[Any], findings: Findings) -> dict[Peer, Setting]:
    """The best setting of each peer that runs here; what does not is noted."""
    chosen = {}
    for place, peer in enumerate(PEERS):
        once = partial(_try, peer, kind, place, expected)
        try:
            found = tried.rates(f"{peer.name}, {kind}", peer.settings, once)
        except (venvs.InstallError, StartError, ConnectionError, agreement.Disagreement) as error:
            findings.notes.append(f"{peer.name}, {kind}: {type(error).__name__}: {error}")
            continue
        chosen[peer] = next(iter(found))
        findings.beside.append((f"{peer.name}, {kind}, tried alone", tried.line(found, "items/s")))
    return chosen


def _try(peer: Peer, kind: str, place: int, expected: Sequence[Any], setting: Setting) -> float:
    running = peer.start(kind, setting, place)
    try:
        run = running.run(CLIENTS, TRY_S)
        running.check(run, expected)
    finally:
        running.server.close()
    return run.rate


def _compare(
    bench: "Bench", kind: str, chosen: dict[Peer, Setting], expected: Sequence[Any], findings: Findings
) -> list[tuple[float | str, float]]:
    with ExitStack() as stack:
        running = {peer.name: peer.start(kind, chosen[peer], place) for place, peer in enumerate(chosen)}
        for one in running.values():
            stack.callback(one.server.close)
        servers = {name: one.server for name, one in running.items()}
        runs = {name: partial(one.run, CLIENTS, bench.seconds) for name, one in running.items()}
        if not bench.alone:
            doors = {name: bench.roster.model(kind, engine) for name, engine in ROSTERS.items()}
            if kind == HALF_KIND and computes_in("bfloat16"):
                doors[HALF] = bench.roster.model(kind, dtype="bfloat16")
            for name, model in doors.items():
                door = stack.enter_context(model)
                servers[name] = bench.roster
                runs[name] = partial(door.run, CLIENTS, bench.seconds)
        found = in_turn(
            bench.rounds, {name: partial(_apart, name, servers, run) for name, run in runs.items()}
        )
    rates = {name: [run.rate for run in told] for name, told in found.items()}
    _tell(kind, rates, {peer.name: str(setting) for peer, setting in chosen.items()}, findings)
    most = max(map(max, rates.values()))
    return [(name, sum(each) / len(each) / most) for name, each in rates.items()]


def _apart(name: str, servers: dict[str, Server], run: Callable[[], load.Run]) -> load.Run:
    with frozen({*servers.values()} - {servers[name]}):
        return run()


def _tell(kind: str, rates: dict[str, list[float]], settings: dict[str, str], findings: Findings) -> None:
    peers = {name: each for name, each in rates.items() if name not in (*ROSTERS, HALF)}
    for name, each in rates.items():
        told = listed(each)
        findings.beside.append((f"{name}, {kind}, {CLIENTS} clients, {settings.get(name, '')}", f"{told} /s"))
    if not peers:
        return
    best = max(peers, key=lambda name: sum(peers[name]))
    if HALF in rates:
        share = ratio(rates[HALF], peers[best])
        note = "no goal: the peer is in float32, and answers differ"
        findings.at_least(f"{kind}: {HALF} / best peer ({best})", share, note=note)
    for roster in (name for name in ROSTERS if name in rates):
        own, told = rates[roster], f"{kind}: {roster}"
        against_best, against_naive = GOALS[kind]
        findings.at_least(f"{told} / best peer ({best})", ratio(own, peers[best]), against_best)
        for name, each in peers.items():
            if name == NAIVE.name:
                findings.at_least(f"{told} / pipeline behind FastAPI", ratio(own, each), against_naive)
            elif name != best:
                findings.at_least(f"{told} / {name}", ratio(own, each), note=settings[name])
