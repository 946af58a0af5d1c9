"""The best size of one pass through a network: measured once, when the model has loaded."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from time import perf_counter
from typing import Any, NamedTuple

from deployments.limits import Batching
from deployments.replica.batch_queue import BatchBudget
from deployments.schema import words
from deployments.task import Module

MAX_TUNING_S = 1.5  # for all measurements; the first two are made in any case
MIN_GAIN = 1.05  # in throughput, for a pass of twice the cost to be worth the wait
MIN_OVERHEAD = 1 / 32  # of a pass's best cost
MIN_MEASURABLE_S = 0.002  # a shorter pass cannot be timed well, and delays no caller
TYPICAL_TOKENS = 64  # of the text to measure with


class SearchRange(NamedTuple):
    """Where to search for a budget: the config's field, and the default if nothing could be measured."""

    field: str
    least: int
    default: int
    most: int


RANGES = {
    "tokens": SearchRange("max_batch_tokens", 512, 1024, 65_536),
    "pixels": SearchRange("max_batch_pixels", 1, 2**20, 2**25),
    "items": SearchRange("max_batch_size", 1, 32, 512),
}


@dataclass(frozen=True)
class BatchCapacity:
    """The capacity of one pass through a module's network, in its unit of cost.

    Beyond `best_cost` throughput does not grow. `overhead` is the cost of an empty pass, `padding` that of a
    unit of padding, `ceiling` the most that fits into memory.
    """

    range: SearchRange
    best_cost: int
    overhead: float
    padding: float
    ceiling: float = inf

    @classmethod
    def default(cls, module: Module) -> "BatchCapacity":
        """Return the capacity before measurements. Without `encode`, an input costs one unit."""
        range = RANGES["items" if type(module).encode is Module.encode else module.unit]
        return cls(range, range.default, range.default * MIN_OVERHEAD, module.padding_cost)

    def budget(self, limits: Batching) -> int:
        """Return the most that a pass may cost: as configured, or else measured, and within memory."""
        configured = getattr(limits, self.range.field) or self.best_cost
        if self.range is RANGES["items"]:
            configured = min(configured, self.best_cost)
        return int(max(1, min(configured, self.ceiling)))

    def batch_budget(self, limits: Batching) -> BatchBudget:
        """Return the budget of a pass within the configured limits."""
        return BatchBudget(limits.max_batch_size, self.budget(limits), self.overhead, self.padding)

    def fill(self, limits: Batching) -> Batching:
        """Return the limits, with the measured budget where none is configured."""
        return limits.model_copy(update={self.range.field: self.budget(limits)})

    def lowered(self, cost: int) -> "BatchCapacity":
        """Return the capacity after a pass of `cost` did not fit into memory."""
        return replace(self, ceiling=min(self.ceiling, cost // 2))

    def raised(self, measured: "BatchCapacity", limits: Batching) -> "BatchCapacity":
        """Return the capacity with twice the ceiling, until it is `measured` again."""
        ceiling = 2 * max(self.ceiling, 1)
        return replace(self, ceiling=ceiling) if ceiling < measured.budget(limits) else measured


class Measurement(NamedTuple):
    cost: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.cost / self.seconds


def measure(module: Module, limits: Batching, examples: list[Any]) -> BatchCapacity:
    """Run the examples, then ever larger passes. Raises what the module raises on the examples."""
    params = module.task.params()
    encoded = module.encode(examples, params)
    module.run([one.input for one in encoded], params)
    capacity = BatchCapacity.default(module)
    if capacity.range is RANGES["tokens"]:
        encoded = module.encode([_repeated(examples[0], TYPICAL_TOKENS // max(encoded[0].cost, 1))], params)
    input, cost, _ = encoded[0]
    return _grow(
        capacity,
        cost,
        lambda count: module.run([input] * count, params),
        min(limits.max_batch_size * cost, getattr(limits, capacity.range.field) or capacity.range.most),
    )


def _grow(capacity: BatchCapacity, cost: int, run: Callable[[int], Any], most: int) -> BatchCapacity:
    """Double the cost until throughput stops growing, a pass fails or would be too large, or time is up."""
    measurements: list[Measurement] = []
    count, least, end = 1, capacity.range.least, perf_counter() + MAX_TUNING_S
    while not has_plateaued(measurements, least):
        late = len(measurements) > 1 and perf_counter() + 4 * measurements[-1].seconds > end
        if late or count * cost > most:
            least = capacity.range.default
            break
        target_rate = max((one.rate for one in measurements), default=inf) * MIN_GAIN
        try:
            seconds = _measure(lambda: run(count), count * cost / target_rate)  # noqa: B023
        except Exception:  # of any kind: smaller passes did not raise it
            capacity = capacity.lowered(count * cost)
            break
        measurements.append(Measurement(count * cost, seconds))
        count *= 2
    return fit_capacity(capacity, measurements, least)


def has_plateaued(measurements: list[Measurement], least: int) -> bool:
    """Return whether the last pass, of at least the cost `least`, gained too little throughput."""
    if len(measurements) < 2:
        return False
    *before, last = measurements
    if last.cost < least or last.seconds < MIN_MEASURABLE_S:
        return False
    return last.rate < MIN_GAIN * max(one.rate for one in before)


def fit_capacity(capacity: BatchCapacity, measurements: list[Measurement], least: int) -> BatchCapacity:
    """Return the capacity with the best cost and the overhead that the measurements show."""
    if len(measurements) < 2:
        return capacity
    best = max(measurements, key=lambda one: one.rate)
    best_cost = max(best.cost, least, *(one.cost for one in measurements if one.seconds < MIN_MEASURABLE_S))
    # Other work on the machine only makes times longer, so the lowest estimate is the best one.
    overhead = min(
        (_estimate_overhead(one, best) for one in measurements if 4 * one.cost <= best.cost), default=0.0
    )
    overhead = min(max(overhead, best_cost * MIN_OVERHEAD), best_cost)
    return replace(capacity, best_cost=best_cost, overhead=overhead)


def _estimate_overhead(small: Measurement, large: Measurement) -> float:
    """Return a / b, the cost of an empty pass, where a pass takes a + b * cost seconds."""
    b = (large.seconds - small.seconds) / (large.cost - small.cost)
    return small.seconds / b - small.cost if b > 0 else inf


def _measure(run: Callable[[], Any], fast_enough: float) -> float:
    """Return the seconds of a run: the better of two, unless the first is fast enough, or too slow."""
    times: list[float] = []
    while not times or (len(times) < 2 and fast_enough < times[0] < MAX_TUNING_S / 4):
        started_at = perf_counter()
        run()
        times.append(perf_counter() - started_at)
    return min(times)


def _repeated(example: Any, times: int) -> Any:
    """Return the example with its texts repeated."""
    texts = [name for name, word in words(type(example)).items() if word in ("text", "texts")]
    values = {name: getattr(example, name) for name in texts if times > 1}
    return example.model_copy(
        update={
            name: " ".join([value] * times) if isinstance(value, str) else (value or []) * times
            for name, value in values.items()
            if value
        }
    )
