"""How the door sees each model: requests per second, latencies, and how many are in flight."""

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
    """What a model has done since its Routers started.

    `inputs` went through the network in `batches`; `cost` is theirs in tokens (or pixels). Seconds are summed
    over requests. `last` is when the last request ended, in seconds since 1970.
    """

    succeeded: int = 0
    failed: int = 0
    succeeded_s: float = 0.0
    failed_s: float = 0.0
    queued_s: float = 0.0
    inference_s: float = 0.0
    inputs: int = 0
    batches: float = 0.0
    cost: int = 0
    last: float | None = None


class ModelStats(Schema):
    """One model over the last ten seconds; latencies are None when nobody asked.

    `in_flight` counts the requests that wait or are being worked for.
    """

    id: str
    requests_per_second: float
    p50_ms: float | None
    p95_ms: float | None
    in_flight: int
    totals: Totals = Totals()


@dataclass
class Reading:
    """What one Router has seen of one model: how long each request took, and when it ended."""

    in_flight: int = 0
    ended: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    totals: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def forget_before(self, moment: float) -> None:
        """Leave out requests that ended before, except the last one of all."""
        while len(self.ended) > 1 and self.ended[0][0] < moment:
            self.ended.popleft()

    def add(self, answers: InferenceResults) -> None:
        """Count what the answers to one request took."""
        usage = answers.usage
        self.totals["inputs"] += len(answers)
        self.totals["cost"] += sum(usage.costs)
        self.totals["queued_s"] += usage.queued_s
        self.totals["inference_s"] += usage.inference_s
        if usage.batches:  # a batch that others shared counts for its part
            self.totals["batches"] += len(answers) * len(usage.batches) / sum(usage.batches)


class RequestStats:
    """Counts the requests of one Router, by model."""

    def __init__(self) -> None:
        self._readings: defaultdict[str, Reading] = defaultdict(Reading)

    @contextmanager
    def request(self, model_id: str) -> Iterator[Reading]:
        """Count what happens inside as one request."""
        reading, start = self._readings[model_id], time.time()
        reading.in_flight += 1
        outcome = "failed"
        try:
            yield reading
            outcome = "succeeded"
        finally:
            reading.in_flight -= 1
            now = time.time()
            reading.ended.append((now, now - start))
            reading.totals[outcome] += 1
            reading.totals[f"{outcome}_s"] += now - start

    def read(self) -> dict[str, Reading]:
        """What has been seen of each model, to be sent to where it is put together."""
        for reading in self._readings.values():
            reading.forget_before(time.time() - WINDOW_S)
        return dict(self._readings)

    def keep(self, model_ids: Container[str]) -> None:
        """Forget all other models, unless requests to them have not ended yet."""
        for id in [id for id, one in self._readings.items() if id not in model_ids and not one.in_flight]:
            del self._readings[id]


def put_together(model_id: str, readings: Iterable[Reading]) -> ModelStats:
    """One model's figures from all Routers' readings."""
    recent = time.time() - WINDOW_S
    readings = list(readings)
    took = sorted(seconds for reading in readings for ended, seconds in reading.ended if ended > recent)
    return ModelStats(
        id=model_id,
        requests_per_second=len(took) / WINDOW_S,
        p50_ms=_percentile(took, 0.50),
        p95_ms=_percentile(took, 0.95),
        in_flight=sum(reading.in_flight for reading in readings),
        totals=_totals(readings),
    )


def _totals(readings: Iterable[Reading]) -> Totals:
    sums: defaultdict[str, float] = defaultdict(float)
    for reading in readings:
        for name, amount in reading.totals.items():
            sums[name] += amount
    ended = [reading.ended[-1][0] for reading in readings if reading.ended]
    return Totals.model_validate({**sums, "last": max(ended, default=None)})


def _percentile(took: list[float], share: float) -> float | None:
    return round(1000 * took[min(len(took) - 1, int(share * len(took)))], 1) if took else None
