"""How the door sees each model: requests per second, latencies, and how many are in flight."""

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from deployments.schema import Schema

WINDOW_S = 10.0
SAMPLES = 500


class Figures(Schema):
    """One model over the last ten seconds; latencies are None when nobody asked.

    `in_flight` counts the requests that wait or are being worked for.
    """

    id: str
    requests_per_second: float
    p50_ms: float | None
    p95_ms: float | None
    in_flight: int


@dataclass
class Reading:
    """What one Router has seen of one model: how long each request took, and when it ended."""

    in_flight: int = 0
    ended: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=SAMPLES))


class Meter:
    """Counts the requests of one Router, by model."""

    def __init__(self) -> None:
        self._readings: defaultdict[str, Reading] = defaultdict(Reading)

    @contextmanager
    def request(self, model_id: str) -> Iterator[None]:
        """Count what happens inside as one request."""
        reading, start = self._readings[model_id], time.time()
        reading.in_flight += 1
        try:
            yield
        finally:
            reading.in_flight -= 1
            now = time.time()
            reading.ended.append((now, now - start))

    def read(self) -> dict[str, Reading]:
        """What has been seen of each model, to be sent to where it is put together."""
        return dict(self._readings)


def put_together(model_id: str, readings: Iterable[Reading]) -> Figures:
    """One model's figures from all Routers' readings."""
    recent = time.time() - WINDOW_S
    readings = list(readings)
    took = sorted(seconds for reading in readings for ended, seconds in reading.ended if ended > recent)
    return Figures(
        id=model_id,
        requests_per_second=len(took) / WINDOW_S,
        p50_ms=_percentile(took, 0.50),
        p95_ms=_percentile(took, 0.95),
        in_flight=sum(reading.in_flight for reading in readings),
    )


def _percentile(took: list[float], share: float) -> float | None:
    return round(1000 * took[min(len(took) - 1, int(share * len(took)))], 1) if took else None
