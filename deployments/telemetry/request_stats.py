"""Request statistics of each model as Routers see them: rate, latencies, requests in flight."""

import time
from collections import defaultdict, deque
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from deployments.results import InferenceResults
from deployments.schema import Schema

WINDOW_S = 10.0
SAMPLES = 500


class Totals(Schema):
    """Running totals of a model since its Routers started.

    `inputs` ran in `batches`; `cost` is their total in tokens or pixels; `truncated_inputs` were longer than
    the model reads. Seconds are summed over requests.
    `last` is the end of the last request, in seconds since 1970.
    """

    succeeded: int = 0
    failed: int = 0
    succeeded_s: float = 0.0
    failed_s: float = 0.0
    queued_s: float = 0.0
    inference_s: float = 0.0
    inputs: int = 0
    truncated_inputs: int = 0
    batches: float = 0.0
    cost: int = 0
    last: float | None = None


class ModelStats(Schema):
    """Statistics of a model over the last ten seconds. Latencies are null without requests.

    `in_flight` counts the requests that wait or run.
    """

    id: str
    requests_per_second: float
    p50_ms: float | None
    p95_ms: float | None
    in_flight: int
    totals: Totals = Totals()


@dataclass
class ModelCounters:
    """One Router's counts for one model; `ended` holds the end and the duration of recent requests."""

    in_flight: int = 0
    ended: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    totals: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def forget_before(self, moment: float) -> None:
        """Drop requests that ended before `moment`, except the last one."""
        while len(self.ended) > 1 and self.ended[0][0] < moment:
            self.ended.popleft()

    def add(self, results: InferenceResults) -> None:
        """Add the usage of one request."""
        usage = results.usage
        self.totals["inputs"] += len(results)
        self.totals["truncated_inputs"] += sum(map(bool, usage.truncated))
        self.totals["cost"] += sum(usage.costs)
        self.totals["queued_s"] += usage.queued_s
        self.totals["inference_s"] += usage.inference_s
        if usage.batches:  # a shared batch counts by this request's part of it
            self.totals["batches"] += len(results) * len(usage.batches) / sum(usage.batches)

    def add_stream(self) -> None:
        """Add one input whose answer has been streamed to its end."""
        self.totals["inputs"] += 1
        self.totals["batches"] += 1


class RequestStats:
    """Counts the requests of one Router, by model."""

    def __init__(self) -> None:
        self._counters: defaultdict[str, ModelCounters] = defaultdict(ModelCounters)

    @contextmanager
    def request(self, model_id: str) -> Iterator[ModelCounters]:
        """Count the body of the `with` block as one request."""
        counters, started_at = self._counters[model_id], time.time()
        counters.in_flight += 1
        outcome = "failed"
        try:
            yield counters
            outcome = "succeeded"
        finally:
            counters.in_flight -= 1
            now = time.time()
            counters.ended.append((now, now - started_at))
            counters.totals[outcome] += 1
            counters.totals[f"{outcome}_s"] += now - started_at

    def report(self) -> dict[str, ModelCounters]:
        """Return the counters of each model, for the Catalog to aggregate."""
        for counters in self._counters.values():
            counters.forget_before(time.time() - WINDOW_S)
        return dict(self._counters)

    def retain(self, model_ids: Container[str]) -> None:
        """Drop the counters of all other models, unless they have requests in flight."""
        idle = [id for id, counters in self._counters.items() if not counters.in_flight]
        for id in idle:
            if id not in model_ids:
                del self._counters[id]


def aggregate(model_id: str, counters: Iterable[ModelCounters]) -> ModelStats:
    """Return a model's statistics from the counters of all Routers."""
    recent = time.time() - WINDOW_S
    counters = list(counters)
    durations = sorted(seconds for router in counters for ended, seconds in router.ended if ended > recent)
    return ModelStats(
        id=model_id,
        requests_per_second=len(durations) / WINDOW_S,
        p50_ms=_percentile(durations, 0.50),
        p95_ms=_percentile(durations, 0.95),
        in_flight=sum(router.in_flight for router in counters),
        totals=_totals(counters),
    )


def _totals(counters: Iterable[ModelCounters]) -> Totals:
    sums: defaultdict[str, float] = defaultdict(float)
    for router in counters:
        for name, amount in router.totals.items():
            sums[name] += amount
    ended = [router.ended[-1][0] for router in counters if router.ended]
    return Totals.model_validate({**sums, "last": max(ended, default=None)})


def _percentile(durations: list[float], share: float) -> float | None:
    if not durations:
        return None
    return round(1000 * durations[min(len(durations) - 1, int(share * len(durations)))], 1)
