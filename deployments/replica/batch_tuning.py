"""How much one pass through a network should hold: found by trying, once, when the model has loaded."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from time import perf_counter
from typing import Any, NamedTuple

from deployments.limits import Batching
from deployments.replica.batch_queue import Room
from deployments.schema import field_types
from deployments.task import Module

LIMIT_S = 1.5  # for all tries, of which the first two are made in any case
GAIN = 1.05  # a pass of twice the cost must do so much more per second to be worth the wait
LEAST_OVERHEAD = 1 / 32  # of a pass's best cost
QUICK_S = 0.002  # of a pass that takes less, the clock tells too little, and no caller waits for long
TYPICAL_TOKENS = 64  # of the text to try with


class Range(NamedTuple):
    """Where a budget is looked for: the config's field, and `untried` where there was no way to look."""

    field: str
    least: int
    untried: int
    most: int


RANGES = {
    "tokens": Range("max_batch_tokens", 512, 1024, 65_536),
    "pixels": Range("max_batch_pixels", 1, 2**20, 2**25),
    "items": Range("max_batch_size", 1, 32, 512),
}


@dataclass(frozen=True)
class Capacity:
    """How much one pass through a module's network holds, in its unit of cost.

    `found` is the cost beyond which a pass does no more per second, `overhead` what a pass costs before its
    first input, `padding` what a unit of padding costs, `ceiling` what memory is known to hold.
    """

    range: Range
    found: int
    overhead: float
    padding: float
    ceiling: float = inf

    @classmethod
    def untried(cls, module: Module) -> "Capacity":
        """A module without `encode` counts nothing but its inputs."""
        range = RANGES["items" if type(module).encode is Module.encode else module.unit]
        return cls(range, range.untried, range.untried * LEAST_OVERHEAD, module.padding_cost)

    def budget(self, limits: Batching) -> int:
        """The most that a pass may cost: as configured, or else as found, and no more than memory holds."""
        configured = getattr(limits, self.range.field) or self.found
        if self.range is RANGES["items"]:
            configured = min(configured, self.found)
        return int(max(1, min(configured, self.ceiling)))

    def room(self, limits: Batching) -> Room:
        return Room(limits.max_batch_size, self.budget(limits), self.overhead, self.padding)

    def fill(self, limits: Batching) -> Batching:
        """The limits, with what was found where nothing is configured."""
        return limits.model_copy(update={self.range.field: self.budget(limits)})

    def lowered(self, cost: int) -> "Capacity":
        """After a pass of `cost` has failed for its size."""
        return replace(self, ceiling=min(self.ceiling, cost // 2))

    def raised(self, measured: "Capacity", limits: Batching) -> "Capacity":
        """Some time after that: twice as much, until it is as `measured` when the model loaded."""
        ceiling = 2 * max(self.ceiling, 1)
        return replace(self, ceiling=ceiling) if ceiling < measured.budget(limits) else measured


class Try(NamedTuple):
    cost: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.cost / self.seconds


def measure(module: Module, limits: Batching, examples: list[Any]) -> Capacity:
    """Answer the examples, then try ever larger passes. Raises what the module raises on the examples."""
    params = module.task.params()
    encoded = module.encode(examples, params)
    module.run([one.input for one in encoded], params)
    capacity = Capacity.untried(module)
    if capacity.range is RANGES["tokens"]:
        encoded = module.encode([_longer(examples[0], TYPICAL_TOKENS // max(encoded[0].cost, 1))], params)
    input, cost, _ = encoded[0]
    return _grow(
        capacity,
        cost,
        lambda count: module.run([input] * count, params),
        min(limits.max_batch_size * cost, getattr(limits, capacity.range.field) or capacity.range.most),
    )


def _grow(capacity: Capacity, cost: int, run: Callable[[int], Any], most: int) -> Capacity:
    """Double the cost until a pass does no more per second, fails, would hold too much, or time is up."""
    tries: list[Try] = []
    count, least, end = 1, capacity.range.least, perf_counter() + LIMIT_S
    while not _enough(tries, least):
        late = len(tries) > 1 and perf_counter() + 4 * tries[-1].seconds > end
        if late or count * cost > most:
            least = capacity.range.untried
            break
        aim = max((one.rate for one in tries), default=inf) * GAIN
        try:
            seconds = _seconds(lambda: run(count), count * cost / aim)  # noqa: B023
        except Exception:  # whatever it is, it happens to none that is smaller
            capacity = capacity.lowered(count * cost)
            break
        tries.append(Try(count * cost, seconds))
        count *= 2
    return _judged(capacity, tries, least)


def _enough(tries: list[Try], least: int) -> bool:
    if len(tries) < 2 or tries[-1].cost < least or tries[-1].seconds < QUICK_S:
        return False
    return tries[-1].rate < GAIN * max(one.rate for one in tries[:-1])


def _judged(capacity: Capacity, tries: list[Try], least: int) -> Capacity:
    if len(tries) < 2:
        return capacity
    best = max(tries, key=lambda one: one.rate)
    found = max(best.cost, least, *(one.cost for one in tries if one.seconds < QUICK_S))
    # Whatever else the machine does makes times longer, so the least of the estimates is the nearest.
    overhead = min((_overhead(one, best) for one in tries if 4 * one.cost <= best.cost), default=0.0)
    return replace(capacity, found=found, overhead=min(max(overhead, found * LEAST_OVERHEAD), found))


def _overhead(small: Try, large: Try) -> float:
    """A pass takes a + b * cost seconds; a / b is what it costs with nothing in it."""
    b = (large.seconds - small.seconds) / (large.cost - small.cost)
    return small.seconds / b - small.cost if b > 0 else inf


def _seconds(run: Callable[[], Any], good: float) -> float:
    """How long a run takes: the better of two, unless the first is `good`, or too slow to be repeated."""
    took: list[float] = []
    while not took or (len(took) < 2 and good < took[0] < LIMIT_S / 4):
        begin = perf_counter()
        run()
        took.append(perf_counter() - begin)
    return min(took)


def _longer(example: Any, times: int) -> Any:
    """The example with its texts so many times over."""
    texts = [name for name, word in field_types(type(example)).items() if word in ("text", "texts")]
    given = {name: getattr(example, name) for name in texts if times > 1}
    return example.model_copy(
        update={
            name: " ".join([value] * times) if isinstance(value, str) else (value or []) * times
            for name, value in given.items()
            if value
        }
    )
