"""Encoded inputs that wait for the network, and which of them share its next pass."""

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

PATIENCE_S = 1.0  # nothing is overtaken by what came so much later
MOST_COMPARED = 2048  # to each side of the oldest, while one batch is chosen
# In the answer to one request: as many as 32 texts of 512 tokens have in vectors of 1,024. Each takes 32
# bytes here and in the Router, and some 20 in JSON.
MOST_NUMBERS = 2**24

ORDER = attrgetter("order")


@dataclass(eq=False)
class Call:
    """One `submit`: its inputs share their parameters, but not always a batch. `gone`: nobody waits.

    `sizes` tells how many inputs each request has of those that came together.
    """

    params: Any
    sizes: list[int]
    arrived: float
    answered: "asyncio.Future[None]"
    gone: bool = False
    queued_s: float = 0.0
    encoded_s: float = 0.0
    inference_s: float = 0.0
    batches: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.alike = _key(self.params)
        self.left = sum(self.sizes)
        self.results: list[Any] = [None] * self.left
        self.costs = [0] * self.left
        self.ends = [*accumulate(self.sizes)]
        self.numbers = [0] * len(self.sizes)

    def admitted(self, place: int, encoded: Encoded | Exception) -> Encoded | Exception:
        """The input as encoded, or `TooLarge`: with those before it, its request's answer would be that."""
        if isinstance(encoded, Exception):
            return encoded
        request = bisect_right(self.ends, place)
        numbers = self.numbers[request] + encoded.numbers
        if numbers > MOST_NUMBERS:
            return TooLarge(
                f"the answer would hold {numbers:,} numbers; at most {MOST_NUMBERS:,} go into one: "
                "send fewer texts at a time, or shorter ones"
            )
        self.numbers[request] = numbers
        return encoded

    def settle(self, place: int, result: Any) -> bool:
        """Take an input's result; tells whether it was the last."""
        self.results[place] = result
        self.left -= 1
        return self.left == 0

    def answers(self) -> InferenceResults:
        usage = Usage(self.costs, self.queued_s, self.encoded_s, self.inference_s, self.batches)
        return InferenceResults(self.results, usage)


@dataclass(eq=False, slots=True)
class Item:
    """One input of a call, at its place: as it came, and later encoded. `order`: by cost, then by age."""

    call: Call
    place: int
    input: Any
    order: tuple[int, int] = (0, 0)
    taken: bool = False

    @property
    def cost(self) -> int:
        return self.order[0]


class Room(NamedTuple):
    """What a pass may hold: so many items, of so much cost with their padding.

    `padding` is what a unit of padding costs, `overhead` what a pass costs with nothing in it.
    """

    items: int
    cost: int
    overhead: float
    padding: float


class Backlog:
    """Encoded items, by age and, among those that may share a batch, by cost. `cost` is that of all."""

    def __init__(self) -> None:
        self.cost = 0
        self._by_age: deque[Item] = deque()
        self._by_cost: dict[Hashable, list[Item]] = {}
        self._added = 0

    def add(self, item: Item, cost: int) -> None:
        self._added += 1
        item.order = (cost, self._added)
        self._by_age.append(item)
        insort(self._by_cost.setdefault(item.call.alike, []), item, key=ORDER)
        self.cost += cost

    def next(self, room: Room) -> list[Item]:
        """The oldest item, and those that may run with it: equal parameters, nearest in cost.

        The oldest goes in any case. Padding costs at most the overhead, which is what one more pass costs.
        """
        while self._by_age and (self._by_age[0].taken or self._by_age[0].call.gone):
            self._take(self._by_age.popleft())
        if not self._by_age:
            return []
        oldest = self._by_age[0]
        alike = self._by_cost[oldest.call.alike]
        batch = _company(oldest, *_sides(alike, oldest), room)
        for item in batch:
            self._take(item)
        return batch

    def _take(self, item: Item) -> None:
        if item.taken:
            return
        item.taken = True
        self.cost -= item.cost
        alike = self._by_cost[item.call.alike]
        del alike[bisect_left(alike, item.order, key=ORDER)]
        if not alike:
            del self._by_cost[item.call.alike]


def _sides(alike: list[Item], oldest: Item) -> tuple[Iterator[Item], Iterator[Item]]:
    """Those that cost no more than the oldest and those that cost no less, the nearest first."""
    place, latest = bisect_left(alike, oldest.order, key=ORDER), oldest.call.arrived + PATIENCE_S

    def company(places: range) -> Iterator[Item]:
        near = (alike[place] for place in islice(places, MOST_COMPARED))
        return (item for item in near if item.call.arrived <= latest and not item.call.gone)

    return company(range(place - 1, -1, -1)), company(range(place + 1, len(alike)))


def _company(oldest: Item, shorter: Iterator[Item], longer: Iterator[Item], room: Room) -> list[Item]:
    batch, longest, cost, padding = [oldest], oldest.cost, float(oldest.cost), 0.0
    short, long = next(shorter, None), next(longer, None)
    while len(batch) < room.items:
        down = room.padding * (longest - short.cost) if short else inf
        up = room.padding * (long.cost - longest) * len(batch) if long else inf
        near, more = (short, down) if down <= up else (long, up)
        if not near or padding + more > room.overhead:
            break
        if cost + near.cost + more <= room.cost:
            batch.append(near)
            longest, cost, padding = max(longest, near.cost), cost + near.cost + more, padding + more
        elif near is short:
            break
        else:
            longer = iter(())  # all of them would be too much
        if near is short:
            short = next(shorter, None)
        else:
            long = next(longer, None)
    return batch


def _key(params: Any) -> Hashable:
    try:
        hash(params)
    except TypeError:  # there are lists among its fields
        return repr(params)
    key: Hashable = params
    return key
