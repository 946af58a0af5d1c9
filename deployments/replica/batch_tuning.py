"""Measurement of how much one forward pass should hold, once, when the model has loaded."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from time import perf_counter
from typing import Any, NamedTuple

from deployments.limits import Batching
from deployments.replica.batch_queue import BatchBudget
from deployments.schema import field_types
from deployments.task import Module

TUNING_S = 1.5  # for all measurements; the first two are always made
MIN_GAIN = 1.05  # a pass of twice the cost must raise the rate by this factor to be worth its latency
MIN_OVERHEAD = 1 / 32  # of the best cost of a pass
MIN_MEASURABLE_S = 0.002  # the clock is too coarse for shorter passes, and they add little latency
TYPICAL_TOKENS = 64  # of the text to measure with


class SearchRange(NamedTuple):
    """The range of a budget: its config field, its bounds, and the `default` if it cannot be measured."""

    field: str
    minimum: int
    default: int
    maximum: int


RANGES = {
    "tokens": SearchRange("max_batch_tokens", 512, 1024, 65_536),
    "pixels": SearchRange("max_batch_pixels", 1, 2**20, 2**25),
    "items": SearchRange("max_batch_size", 1, 32, 512),
}


@dataclass(frozen=True)
class BatchCapacity:
    """How much one pass through a module's network should hold, in its unit of cost.

    `best` is the cost beyond which the rate stops rising, `overhead` the cost of an empty pass, `padding` the
    cost of a unit of padding, `ceiling` the largest cost that is known to fit into memory.
    """

    range: SearchRange
    best: int
    overhead: float
    padding: float
    ceiling: float = inf

    @classmethod
    def unmeasured(cls, module: Module) -> "BatchCapacity":
        """Return the default capacity. The unit of a module without `encode` is an input."""
        range = RANGES["items" if type(module).encode is Module.encode else module.unit]
        return cls(range, range.default, range.default * MIN_OVERHEAD, module.padding_cost)

    def budget(self, limits: Batching) -> int:
        """Return the maximum cost of a pass: as configured or measured, and at most what fits into memory."""
        configured = getattr(limits, self.range.field) or self.best
        if self.range is RANGES["items"]:
            configured = min(configured, self.best)
        return int(max(1, min(configured, self.ceiling)))

    def batch_budget(self, limits: Batching) -> BatchBudget:
        return BatchBudget(limits.max_batch_size, self.budget(limits), self.overhead, self.padding)

    def fill(self, limits: Batching) -> Batching:
        """Return the limits, completed by measured ones."""
        return limits.model_copy(update={self.range.field: self.budget(limits)})

    def after_failure(self, cost: int) -> "BatchCapacity":
        """Return the capacity after a pass of `cost` has run out of memory."""
        return replace(self, ceiling=min(self.ceiling, cost // 2))

    def recovered(self, measured: "BatchCapacity", limits: Batching) -> "BatchCapacity":
        """Return the capacity some time after a failure: twice as much, up to `measured`."""
        ceiling = 2 * max(self.ceiling, 1)
        return replace(self, ceiling=ceiling) if ceiling < measured.budget(limits) else measured


class Measurement(NamedTuple):
    cost: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.cost / self.seconds


def measure(module: Module, limits: Batching, examples: list[Any]) -> BatchCapacity:
    """Run the examples, then measure ever larger passes. Raises what the module raises on the examples."""
    params = module.task.params()
    encoded = module.encode(examples, params)
    module.run([example.input for example in encoded], params)
    capacity = BatchCapacity.unmeasured(module)
    if capacity.range is RANGES["tokens"]:
        encoded = module.encode(
            [_repeat_text(examples[0], TYPICAL_TOKENS // max(encoded[0].cost, 1))], params
        )
    input, cost = encoded[0].input, encoded[0].cost
    return _grow(
        capacity,
        cost,
        lambda count: module.run([input] * count, params),
        min(limits.max_batch_size * cost, getattr(limits, capacity.range.field) or capacity.range.maximum),
    )


def _grow(capacity: BatchCapacity, cost: int, run: Callable[[int], Any], max_cost: int) -> BatchCapacity:
    """Double the cost until the rate stops rising, a pass fails or is too large, or time is up."""
    measurements: list[Measurement] = []
    count, minimum, deadline = 1, capacity.range.minimum, perf_counter() + TUNING_S
    while not has_plateaued(measurements, minimum):
        late = len(measurements) > 1 and perf_counter() + 4 * measurements[-1].seconds > deadline
        if late or count * cost > max_cost:
            minimum = capacity.range.default
            break
        target_rate = max((run.rate for run in measurements), default=inf) * MIN_GAIN
        try:
            seconds = _seconds(lambda: run(count), count * cost / target_rate)  # noqa: B023
        except Exception:  # smaller passes have succeeded, so the size is the cause
            capacity = capacity.after_failure(count * cost)
            break
        measurements.append(Measurement(count * cost, seconds))
        count *= 2
    return fit_capacity(capacity, measurements, minimum)


def has_plateaued(measurements: list[Measurement], minimum: int) -> bool:
    """Return whether the last measurement, of at least the minimum cost, no longer raised the rate."""
    if len(measurements) < 2 or measurements[-1].cost < minimum:
        return False
    if measurements[-1].seconds < MIN_MEASURABLE_S:
        return False
    return measurements[-1].rate < MIN_GAIN * max(run.rate for run in measurements[:-1])


def fit_capacity(capacity: BatchCapacity, measurements: list[Measurement], minimum: int) -> BatchCapacity:
    """Return the capacity with the best cost and the overhead that the measurements show."""
    if len(measurements) < 2:
        return capacity
    best = max(measurements, key=lambda run: run.rate)
    quick = (run.cost for run in measurements if run.seconds < MIN_MEASURABLE_S)
    best_cost = max(best.cost, minimum, *quick)
    # Other load on the machine only makes passes longer, so the smallest estimate is the best.
    overhead = min((_overhead(run, best) for run in measurements if 4 * run.cost <= best.cost), default=0.0)
    return replace(capacity, best=best_cost, overhead=min(max(overhead, best_cost * MIN_OVERHEAD), best_cost))


def _overhead(small: Measurement, large: Measurement) -> float:
    """Return a / b, the cost of an empty pass, where a pass takes a + b * cost seconds."""
    b = (large.seconds - small.seconds) / (large.cost - small.cost)
    return small.seconds / b - small.cost if b > 0 else inf


def _seconds(run: Callable[[], Any], target: float) -> float:
    """Time a run: the better of two, unless the first meets the `target` or is too slow to repeat."""
    times: list[float] = []
    while not times or (len(times) < 2 and target < times[0] < TUNING_S / 4):
        started_at = perf_counter()
        run()
        times.append(perf_counter() - started_at)
    return min(times)


def _repeat_text(example: Any, times: int) -> Any:
    """Return the example with its texts repeated."""
    fields = [name for name, type_ in field_types(type(example)).items() if type_ in ("text", "texts")]
    values = {name: getattr(example, name) for name in fields if times > 1}
    return example.model_copy(
        update={
            name: " ".join([value] * times) if isinstance(value, str) else (value or []) * times
            for name, value in values.items()
            if value
        }
    )
