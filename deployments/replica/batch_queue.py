"""The queue of encoded inputs, and the choice of those that share the network's next pass."""

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, islice
from math import inf
from operator import attrgetter
from typing import Any, NamedTuple

from deployments.errors import TooLarge
from deployments.results import Answers, Usage
from deployments.task import Encoded

MAX_OVERTAKING_S = 1.0  # no input overtakes one that arrived so much earlier
MAX_COMPARED = 2048  # inputs on each side of the oldest, for one batch
# In the results of one request: as many as the vectors of 32 texts of 512 tokens have, in 1,024 dimensions.
# Each number takes 32 bytes here and in the Router, and some 20 in JSON.
MAX_OUTPUT_NUMBERS = 2**24

ORDER = attrgetter("order")


@dataclass(eq=False)
class PendingCall:
    """One `submit`: its inputs share their parameters, but not always a batch.

    `sizes` holds the number of inputs of each request in the call.
    """

    params: Any
    sizes: list[int]
    arrived: float
    done: "asyncio.Future[None]"
    cancelled: bool = False
    queued_s: float = 0.0
    encoded_s: float = 0.0
    computed_s: float = 0.0
    batches: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batch_key = _hashable(self.params)
        self.missing = sum(self.sizes)
        self.results: list[Any] = [None] * self.missing
        self.costs = [0] * self.missing
        self.ends = [*accumulate(self.sizes)]
        self.numbers = [0] * len(self.sizes)

    def check_output_size(self, index: int, encoded: Encoded | Exception) -> Encoded | Exception:
        """Return the encoded input, or `TooLarge` if its request's results would hold too many numbers."""
        if isinstance(encoded, Exception):
            return encoded
        request = bisect_right(self.ends, index)
        numbers = self.numbers[request] + encoded.numbers
        if numbers > MAX_OUTPUT_NUMBERS:
            return TooLarge(
                f"the answer would hold {numbers:,} numbers; at most {MAX_OUTPUT_NUMBERS:,} go into one: "
                "send fewer texts at a time, or shorter ones"
            )
        self.numbers[request] = numbers
        return encoded

    def set_result(self, index: int, result: Any) -> bool:
        """Store an input's result. Returns whether it was the last one."""
        self.results[index] = result
        self.missing -= 1
        return self.missing == 0

    def answers(self) -> Answers:
        """Return the results, with what they took."""
        usage = Usage(self.costs, self.queued_s, self.encoded_s, self.computed_s, self.batches)
        return Answers(self.results, usage)


@dataclass(eq=False, slots=True)
class QueuedInput:
    """The input of a call at an index: as it arrived, and later encoded. `order`: by cost, then by age."""

    call: PendingCall
    index: int
    input: Any
    order: tuple[int, int] = (0, 0)
    taken: bool = False

    @property
    def cost(self) -> int:
        return self.order[0]


class BatchBudget(NamedTuple):
    """The most that a pass may hold: so many inputs, of so much cost together with their padding.

    `padding` is the cost of a unit of padding, `overhead` the cost of an empty pass.
    """

    inputs: int
    cost: int
    overhead: float
    padding: float


class BatchQueue:
    """Encoded inputs, by age and, among those that may share a batch, by cost. `cost` is their sum."""

    def __init__(self) -> None:
        self.cost = 0
        self._by_age: deque[QueuedInput] = deque()
        self._by_cost: dict[Hashable, list[QueuedInput]] = {}
        self._added = 0

    def add(self, item: QueuedInput, cost: int) -> None:
        self._added += 1
        item.order = (cost, self._added)
        self._by_age.append(item)
        insort(self._by_cost.setdefault(item.call.batch_key, []), item, key=ORDER)
        self.cost += cost

    def next(self, budget: BatchBudget) -> list[QueuedInput]:
        """Take the oldest input, and those that may run with it: equal parameters, nearest in cost.

        The oldest goes in any case. Padding costs at most as much as one more pass: its overhead.
        """
        while self._by_age and (self._by_age[0].taken or self._by_age[0].call.cancelled):
            self._take(self._by_age.popleft())
        if not self._by_age:
            return []
        oldest = self._by_age[0]
        same_key = self._by_cost[oldest.call.batch_key]
        batch = fill_batch(oldest, *neighbours_by_cost(same_key, oldest), budget)
        for item in batch:
            self._take(item)
        return batch

    def _take(self, item: QueuedInput) -> None:
        if item.taken:
            return
        item.taken = True
        self.cost -= item.cost
        same_key = self._by_cost[item.call.batch_key]
        del same_key[bisect_left(same_key, item.order, key=ORDER)]
        if not same_key:
            del self._by_cost[item.call.batch_key]


def neighbours_by_cost(
    same_key: list[QueuedInput], oldest: QueuedInput
) -> tuple[Iterator[QueuedInput], Iterator[QueuedInput]]:
    """Return the inputs that cost no more than the oldest, and those that cost no less, the nearest first."""
    index, latest = bisect_left(same_key, oldest.order, key=ORDER), oldest.call.arrived + MAX_OVERTAKING_S

    def waiting(indices: range) -> Iterator[QueuedInput]:
        near = (same_key[index] for index in islice(indices, MAX_COMPARED))
        return (item for item in near if item.call.arrived <= latest and not item.call.cancelled)

    return waiting(range(index - 1, -1, -1)), waiting(range(index + 1, len(same_key)))


def fill_batch(
    oldest: QueuedInput, shorter: Iterator[QueuedInput], longer: Iterator[QueuedInput], budget: BatchBudget
) -> list[QueuedInput]:
    """Return the oldest input with the neighbours whose cost and padding fit into the budget."""
    batch, longest, cost, padding = [oldest], oldest.cost, float(oldest.cost), 0.0
    short, long = next(shorter, None), next(longer, None)
    while len(batch) < budget.inputs:
        down = budget.padding * (longest - short.cost) if short else inf
        up = budget.padding * (long.cost - longest) * len(batch) if long else inf
        near, more = (short, down) if down <= up else (long, up)
        if not near or padding + more > budget.overhead:
            break
        if cost + near.cost + more <= budget.cost:
            batch.append(near)
            longest, cost, padding = max(longest, near.cost), cost + near.cost + more, padding + more
        elif near is short:
            break
        else:
            longer = iter(())  # the next ones cost no less
        if near is short:
            short = next(shorter, None)
        else:
            long = next(longer, None)
    return batch


def _hashable(params: Any) -> Hashable:
    try:
        hash(params)
    except TypeError:  # a field holds a list
        return repr(params)
    key: Hashable = params
    return key
