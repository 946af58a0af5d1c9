"""Memory: what a replica takes beside a bare process with the same module that has answered the same texts.

Passes take memory by their size, so the bare process's batches are as large as those of the replica in torch
were on average. But they are cut from sorted texts, the same ones again and again, and the replica's are of
whatever came: for each new shape oneDNN keeps a little, and a replica lets it keep fewer.
"""

import time
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import models
from benchmarks.cluster import COUNTS, ROSTERS
from benchmarks.findings import Findings, Plot
from benchmarks.inprocess import Processes

if TYPE_CHECKING:
    from benchmarks.bench import Bench

TITLE = "Memory of a replica"
KINDS = ("embeddings", "classification")
CLIENTS = 64
MOST = 1.2
MIB = 2**20


class Taken(NamedTuple):
    """A process's memory in bytes, and how many inputs its batches have held on average."""

    rss: int
    pss: int
    batch: float


def measure(bench: "Bench") -> Findings:
    """Resident memory of both, after the same texts."""
    findings = Findings("memory", TITLE)
    lines: dict[str, list[tuple[float | str, float]]] = {}
    for kind in KINDS:
        replicas = {name: _replica(bench, kind, engine) for name, engine in ROSTERS.items()}
        direct = _bare(bench, kind, next(iter(replicas.values())).batch)
        for name, memory in {"bare process": direct, **replicas}.items():
            lines.setdefault(name, []).append((kind, memory.rss / MIB))
            sizes = f"{memory.rss / MIB:.0f} MiB resident, {memory.pss / MIB:.0f} MiB proportional"
            findings.beside.append((f"{kind}, {name}", f"{sizes}; batches of {memory.batch:.0f}"))
            if name in ROSTERS:
                told = f"{kind}: resident memory of a replica of {name} / bare process in torch"
                findings.at_most(told, memory.rss / direct.rss, MOST)
    findings.notes.append("Of a bare process's memory 3 MiB are the making of the texts.")
    findings.plot = Plot("Resident memory", "", "MiB", lines)
    return findings


def _bare(bench: "Bench", kind: str, batch: float) -> Taken:
    """Of a process of one thread, as a replica has it."""
    bare = Processes(models.checkpoint(kind), COUNTS[kind], 1, 1)
    try:
        bare.budget = max(1, round(batch))
        bare.rate(bench.seconds)
        return Taken(**bare.memory(), batch=bare.budget)
    finally:
        bare.close()


def _replica(bench: "Bench", kind: str, engine: str) -> Taken:
    with bench.roster.model(kind, engine, deployment={"num_replicas": 1}) as door:
        before = bench.roster.totals(door.name)
        door.run(CLIENTS, bench.seconds)
        (replica,) = bench.roster.replicas(door.name)
        told = replica.memory_full_info()
        while (after := bench.roster.totals(door.name))["batches"] == before["batches"]:
            time.sleep(0.1)  # Routers tell it once a second
    inputs, batches = (after[name] - before[name] for name in ("inputs", "batches"))
    return Taken(told.rss, getattr(told, "pss", told.rss), inputs / batches)
