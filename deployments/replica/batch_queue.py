"""The queue of encoded inputs, and the choice of those that share the next pass."""

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
from deployments.results import InferenceResults, Usage
from deployments.task import Encoded

MAX_OVERTAKE_S = 1.0  # an input is not overtaken by inputs that arrived so much later
MAX_COMPARED = 2048  # inputs compared on each side of the oldest, for one batch
# Numbers in one response: 32 texts of 512 tokens with vectors of 1,024. A number takes 32 bytes here and in
# the Router, and about 20 bytes of JSON.
MAX_OUTPUT_NUMBERS = 2**24

ORDER = attrgetter("order")


@dataclass(eq=False)
class PendingRequest:
    """One `submit` call. Its inputs share parameters, but not always a batch.

    `sizes` holds the number of inputs of each client request in it. `cancelled`: no caller waits any more.
    """

    params: Any
    sizes: list[int]
    arrived_at: float
    done: "asyncio.Future[None]"
    cancelled: bool = False
    queued_s: float = 0.0
    encoded_s: float = 0.0
    inference_s: float = 0.0
    batches: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batch_key = _batch_key(self.params)
        self.unfinished = sum(self.sizes)
        self.results: list[Any] = [None] * self.unfinished
        self.costs = [0] * self.unfinished
        self.truncated = [0] * self.unfinished
        self.ends = [*accumulate(self.sizes)]
        self.numbers = [0] * len(self.sizes)

    def check_output_size(self, index: int, encoded: Encoded | Exception) -> Encoded | Exception:
        """Return the encoded input, or `TooLarge` if it makes the response of its request too large."""
        if isinstance(encoded, Exception):
            return encoded
        request = bisect_right(self.ends, index)
        numbers = self.numbers[request] + encoded.numbers
        if numbers > MAX_OUTPUT_NUMBERS:
            return TooLarge(
                f"the response would hold {numbers:,} numbers; at most {MAX_OUTPUT_NUMBERS:,} are allowed: "
                "send fewer or shorter texts"
            )
        self.numbers[request] = numbers
        return encoded

    def settle(self, index: int, result: Any) -> bool:
        """Store an input's result. Return whether it was the last one."""
        self.results[index] = result
        self.unfinished -= 1
        return self.unfinished == 0

    def inference_results(self) -> InferenceResults:
        usage = Usage(
            self.costs, self.truncated, self.queued_s, self.encoded_s, self.inference_s, self.batches
        )
        return InferenceResults(self.results, usage)


@dataclass(eq=False, slots=True)
class QueuedInput:
    """One input of a request, raw and later encoded. `order` sorts by cost, then by age."""

    request: PendingRequest
    index: int
    input: Any
    order: tuple[int, int] = (0, 0)
    taken: bool = False

    @property
    def cost(self) -> int:
        return self.order[0]


class BatchBudget(NamedTuple):
    """The limits of a pass: the number of inputs, and their cost with padding.

    `padding` is the cost of a unit of padding, `overhead` the cost of an empty pass.
    """

    items: int
    cost: int
    overhead: float
    padding: float


class BatchQueue:
    """Encoded inputs, by age and, within equal parameters, by cost. `cost` is their total."""

    def __init__(self) -> None:
        self.cost = 0
        self._by_age: deque[QueuedInput] = deque()
        self._by_cost: dict[Hashable, list[QueuedInput]] = {}
        self._added = 0

    def add(self, item: QueuedInput, cost: int) -> None:
        self._added += 1
        item.order = (cost, self._added)
        self._by_age.append(item)
        insort(self._by_cost.setdefault(item.request.batch_key, []), item, key=ORDER)
        self.cost += cost

    def next(self, budget: BatchBudget) -> list[QueuedInput]:
        """Remove and return the next batch: the oldest input and inputs of equal parameters and similar cost.

        The oldest is always included. Padding costs at most the overhead, the cost of another pass.
        """
        while self._by_age and (self._by_age[0].taken or self._by_age[0].request.cancelled):
            self._take(self._by_age.popleft())
        if not self._by_age:
            return []
        oldest = self._by_age[0]
        same_key = self._by_cost[oldest.request.batch_key]
        batch = _fill_batch(oldest, *_neighbours_by_cost(same_key, oldest), budget)
        for item in batch:
            self._take(item)
        return batch

    def _take(self, item: QueuedInput) -> None:
        if item.taken:
            return
        item.taken = True
        self.cost -= item.cost
        same_key = self._by_cost[item.request.batch_key]
        del same_key[bisect_left(same_key, item.order, key=ORDER)]
        if not same_key:
            del self._by_cost[item.request.batch_key]


def _neighbours_by_cost(
    same_key: list[QueuedInput], oldest: QueuedInput
) -> tuple[Iterator[QueuedInput], Iterator[QueuedInput]]:
    """Return the inputs that cost no more than the oldest, and those that cost no less, nearest first."""
    position = bisect_left(same_key, oldest.order, key=ORDER)
    latest = oldest.request.arrived_at + MAX_OVERTAKE_S

    def eligible(positions: range) -> Iterator[QueuedInput]:
        near = (same_key[position] for position in islice(positions, MAX_COMPARED))
        return (item for item in near if item.request.arrived_at <= latest and not item.request.cancelled)

    return eligible(range(position - 1, -1, -1)), eligible(range(position + 1, len(same_key)))


def _fill_batch(
    oldest: QueuedInput, shorter: Iterator[QueuedInput], longer: Iterator[QueuedInput], budget: BatchBudget
) -> list[QueuedInput]:
    batch, longest, cost, padding = [oldest], oldest.cost, float(oldest.cost), 0.0
    short, long = next(shorter, None), next(longer, None)
    while len(batch) < budget.items:
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
            longer = iter(())  # all others on this side are even longer
        if near is short:
            short = next(shorter, None)
        else:
            long = next(longer, None)
    return batch


def _batch_key(params: Any) -> Hashable:
    try:
        hash(params)
    except TypeError:  # some of its fields are lists
        return repr(params)
    key: Hashable = params
    return key
