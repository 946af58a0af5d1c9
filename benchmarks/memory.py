"""Memory: what a replica takes beside a bare process that holds the same model and has done the same work."""

from typing import TYPE_CHECKING

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


def measure(bench: "Bench") -> Findings:
    """Resident memory of both, after the same texts."""
    findings = Findings("memory", TITLE)
    lines: dict[str, list[tuple[float | str, float]]] = {}
    for kind in KINDS:
        bare = Processes(models.checkpoint(kind), COUNTS[kind], 1, 1)
        try:
            bare.choose_budget(min(bench.seconds, 2.0))
            direct = bare.memory()
        finally:
            bare.close()
        taken = {"bare process": direct} | {
            name: _replica(bench, kind, engine) for name, engine in ROSTERS.items()
        }
        for name, memory in taken.items():
            lines.setdefault(name, []).append((kind, memory["rss"] / MIB))
            sizes = f"{memory['rss'] / MIB:.0f} MiB resident, {memory['pss'] / MIB:.0f} MiB proportional"
            findings.beside.append((f"{kind}, {name}", sizes))
            if name in ROSTERS:
                told = f"{kind}: resident memory of a replica of {name} / bare process in torch"
                findings.at_most(told, memory["rss"] / direct["rss"], MOST)
    findings.plot = Plot("Resident memory", "", "MiB", lines)
    return findings


def _replica(bench: "Bench", kind: str, engine: str) -> dict[str, int]:
    """A replica's memory in bytes, as `Processes.memory` tells a bare process's."""
    with bench.roster.model(kind, engine, deployment={"num_replicas": 1}) as door:
        door.run(CLIENTS, bench.seconds)
        (replica,) = bench.roster.replicas(door.name)
        told = replica.memory_full_info()
    return {"rss": told.rss, "pss": getattr(told, "pss", told.rss)}
