"""Images: photographs of a megabyte, through the door against the same module called directly."""

from functools import partial
from typing import TYPE_CHECKING

import orjson

from benchmarks import agreement, inprocess, models, texts
from benchmarks.cluster import COUNTS
from benchmarks.findings import Findings, Plot
from benchmarks.rounds import in_turn, ratio

if TYPE_CHECKING:
    from benchmarks.bench import Bench

TITLE = "Images: photographs of a megabyte"
KIND = "images"
CLIENTS = (1, 16)
SAMPLE = 8
TRY_S = 1.5


def measure(bench: "Bench") -> Findings:
    """Pictures per second: decoding, scaling and an image classifier as large as ResNet-18."""
    findings = Findings(KIND, TITLE)
    folder = models.checkpoint(KIND)
    with inprocess.yardstick(folder, COUNTS[KIND], TRY_S) as yardstick, bench.roster.model(KIND) as door:

        def at_rest() -> float:
            with bench.roster.frozen():
                return yardstick.rate(bench.seconds)

        runs = {clients: partial(door.run, clients, bench.seconds, SAMPLE) for clients in CLIENTS}
        found = in_turn(bench.rounds, runs)
        direct = in_turn(bench.rounds, {"rate": at_rest})["rate"]
        answers = {place: orjson.loads(body) for place, body in found[CLIENTS[-1]][0].answers.items()}
        agreement.require(answers, yardstick.quickest.answers(SAMPLE))
    shares = {clients: ratio([run.rate for run in found[clients]], direct) for clients in CLIENTS}
    for clients, share in shares.items():
        findings.at_least(f"{clients} clients / in-process, pictures/s", share)
        rates = ", ".join(f"{run.rate:.1f}" for run in found[clients])
        p50 = 1000 * found[clients][-1].p(50)
        findings.beside.append((f"{clients} clients", f"{rates} pictures/s; p50 {p50:.0f} ms"))
    rates = ", ".join(f"{rate:.1f}" for rate in direct)
    findings.beside.append((f"in-process, {yardstick.fastest.title}", f"{rates} pictures/s"))
    size = sum(map(len, texts.photographs(COUNTS[KIND]))) / COUNTS[KIND] / 1e6
    findings.notes.append(f"JPEGs of 1600 by 1200 pixels, {size:.2f} MB each, sent as they are.")
    lines: dict[str, list[tuple[float | str, float]]] = {
        "through the door": [(f"{clients} clients", share.value) for clients, share in shares.items()]
    }
    findings.plot = Plot(
        "Pictures per second through the door", "", "of the yardstick's", lines, {"in-process": 1.0}
    )
    return findings
