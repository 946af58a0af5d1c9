"""Measure memory: a replica's, against that of a bare process with the same module and workload.

Memory grows with batches: those of the bare process are as large as the average of the replica in torch. But
they repeat, and a replica's have new shapes: oneDNN caches primitives by shape; a replica limits the cache.
"""

import time
from contextlib import closing
from typing import Any

from benchmarks import baseline, harness, peers, workload

TITLE = "Memory of a replica"
KINDS = ("embeddings", "classification")
CLIENTS, MAX_SHARE, MIB = 64, 1.2, 2**20


def measure(bench: harness.Bench, findings: harness.Findings) -> None:
    """Measure resident memory of both, after the same texts."""
    lines: dict[str, list[tuple[str, float]]] = {}
    for kind in KINDS:
        found = {name: _replica(bench, kind, options) for name, options in peers.ROSTERS.items()}
        # One thread, as a replica has.
        with closing(baseline.Processes(workload.checkpoint(kind), workload.COUNTS[kind])) as bare:
            bare.budget = max(1, round(found["Roster"]["batch"]))
            bare.rate(bench.seconds)
            found["bare process"] = {**bare.first("memory"), "batch": bare.budget}
        for name, one in found.items():
            lines.setdefault(name, []).append((kind, one["rss"] / MIB))
            sizes = f"{one['rss'] / MIB:.0f} MiB resident, {one['pss'] / MIB:.0f} MiB proportional"
            findings.raw[f"{kind}, {name}"] = f"{sizes}; batches of {one['batch']:.0f}"
        for name in peers.ROSTERS:
            label = f"{kind}: resident memory of a replica of {name} / bare process in torch"
            findings.add(label, found[name]["rss"] / found["bare process"]["rss"], f"≤ {MAX_SHARE}")
    findings.notes.append("A bare process's memory includes 3 MiB for making the texts.")
    findings.plot = harness.Plot("Resident memory", "", "MiB", lines)


def _replica(bench: harness.Bench, kind: str, options: dict[str, Any]) -> dict[str, float]:
    with bench.roster.model(kind, **options, replicas=1) as endpoint:
        model_id = endpoint.url.rpartition("/")[2]
        before = bench.roster.totals(model_id)
        endpoint.run(CLIENTS, bench.seconds)
        (replica,) = bench.roster.replicas(model_id)
        memory = replica.memory_full_info()
        while (after := bench.roster.totals(model_id))["batches"] == before["batches"]:
            time.sleep(0.1)  # Routers report once a second
    inputs, batches = (after[name] - before[name] for name in ("inputs", "batches"))
    return {"rss": memory.rss, "pss": getattr(memory, "pss", memory.rss), "batch": inputs / batches}
