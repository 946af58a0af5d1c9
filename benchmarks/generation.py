"""Measure generation: tokens per second and time to first token, with `transformers serve` as a peers."""

from contextlib import closing
from dataclasses import replace
from functools import partial
from statistics import fmean, median
from typing import Any

from benchmarks import baseline, harness, load, peers, server, workload

TITLE = "Generation: streams side by side"
KIND = "generation"
STREAMS, MANY = (1, 8, 16, 32), 16
SERVE_GOAL, MIN_TO_SINGLE = "≥ 1.2", 4.0
SINGLE, SERVE = "one at a time", "transformers serve"
OPTIONS = {"parameters": {"max_new_tokens": baseline.NEW_TOKENS, "do_sample": False}, "stream": True}


def tokens_per_s(run: load.Run) -> float:
    """Count tokens by events: every response has `baseline.NEW_TOKENS` tokens, in any number of events."""
    events = [body.count(b"data:") for body in run.responses.values()]
    return run.events / run.seconds * baseline.NEW_TOKENS * len(events) / sum(events)


def measure(bench: harness.Bench, findings: harness.Findings) -> None:
    """Run all of them in turn, at 1 to 32 streams."""
    settings = peers.best_settings(
        KIND, [SERVE], lambda endpoint: tokens_per_s(endpoint.run(MANY, peers.TRIAL_S)), "tokens/s", findings
    )
    start = partial(baseline.Processes, workload.checkpoint(KIND), workload.COUNTS[KIND], worker="Generate")
    with (
        closing(start(threads=baseline.CORES)) as wide,
        closing(start(threads=1)) as narrow,
        peers.running(bench, KIND, settings, peers.ROSTERS) as endpoints,
    ):
        single = max(wide, narrow, key=lambda processes: processes.rate(1.0))
        for name in endpoints.keys() & peers.ROSTERS.keys():
            own = server.endpoint(endpoints[name].server, endpoints[name].url, KIND, **OPTIONS)
            endpoints[name] = replace(own, read=peers.stream_text)
        expected = single.first("responses", count=load.SAMPLE)
        others = {(SINGLE, 1): partial(single.rate, bench.seconds)}
        runs = harness.compare(bench, endpoints, STREAMS, others)
    _report(findings, runs, list(endpoints), settings.get(SERVE, ""))
    # Batched sums differ in the last bit, and a token now and then with them: a note, not a condition.
    for name, endpoint in endpoints.items():
        found = endpoint.responses(runs[name, MANY][0])
        same = sum(text == expected[index] for index, text in found.items())
        findings.notes.append(f"{name}: {same} of {len(found)} sampled answers equal those of {SINGLE}.")


def _report(findings: harness.Findings, runs: dict[Any, list[Any]], names: list[str], setting: str) -> None:
    single = runs.pop((SINGLE, 1))
    rates = {key: [tokens_per_s(run) for run in each] for key, each in runs.items()}
    firsts = {key: [load.percentile(run.first_bytes, 50) for run in each] for key, each in runs.items()}
    for (name, streams), each in rates.items():
        first = f"first token after {1000 * median(firsts[name, streams]):.0f} ms (p50)"
        findings.raw[f"{name}, {streams} streams"] = f"{harness.numbers(each)} tokens/s; {first}"
    findings.raw[SINGLE] = f"{harness.numbers(single)} tokens/s"
    for roster in (name for name in peers.ROSTERS if name in names):
        own, label = rates[roster, MANY], f"tokens/s at {MANY} streams: {roster}"
        findings.add(f"{label} / {SINGLE}", harness.ratio(own, single), f"≥ {MIN_TO_SINGLE:g}")
        if not setting:
            missing = harness.Figure(f"{label} / {SERVE}", "-", SERVE_GOAL, note="it does not run here")
            findings.figures.append(missing)
            continue
        findings.add(f"{label} / {SERVE}", harness.ratio(own, rates[SERVE, MANY]), SERVE_GOAL, setting)
        for streams in STREAMS:
            label = f"time to first token at {streams} streams: {roster} / {SERVE}"
            findings.add(label, harness.ratio(firsts[roster, streams], firsts[SERVE, streams]))
    title = f"{baseline.NEW_TOKENS} new tokens each, greedy, a Llama of 8 million parameters"
    y, goals = "tokens per second, relative to one at a time", {f"goal at {MANY} streams": MIN_TO_SINGLE}
    lines = {name: [(n, median(rates[name, n]) / fmean(single)) for n in STREAMS] for name in names}
    findings.plot = harness.Plot(title, "streams", y, lines, goals)
