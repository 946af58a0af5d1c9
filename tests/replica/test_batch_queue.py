"""Who runs next: the oldest, with its nearest in cost, and little padding."""

import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.replica.batch_queue import (
    MAX_COMPARED,
    MAX_OVERTAKING_S,
    BatchBudget,
    BatchQueue,
    PendingCall,
    QueuedInput,
)

BUDGET = BatchBudget(inputs=100, cost=1000, overhead=1e9, padding=1.0)


def call(params: Any = None, arrived: float = 0.0) -> PendingCall:
    return PendingCall(params, [1], arrived, done=None)  # type: ignore[arg-type]


def queue(*costs: int, params: Any = None) -> BatchQueue:
    waiting = BatchQueue()
    for cost in costs:
        waiting.add(QueuedInput(call(params), 0, cost), cost)
    return waiting


def drained(waiting: BatchQueue, budget: BatchBudget) -> list[list[int]]:
    batches = []
    while batch := waiting.next(budget):
        batches.append([item.cost for item in batch])
    return batches


def test_the_oldest_takes_its_nearest() -> None:
    waiting = queue(50, 10, 90, 49, 52, 30)
    assert drained(waiting, BUDGET._replace(inputs=3)) == [[50, 49, 52], [10, 30, 90]]


def test_the_budget_counts_padding() -> None:
    assert drained(queue(*[10] * 7), BUDGET._replace(cost=30)) == [[10] * 3, [10] * 3, [10]]
    assert drained(queue(5, 10, 5, 5), BUDGET._replace(cost=20)) == [[5, 5, 5], [10]]
    assert drained(queue(500, 1), BUDGET._replace(cost=30)) == [[500], [1]]


def test_padding_costs_no_more_than_a_pass_of_its_own() -> None:
    costs = (10, 100, 11, 99, 12, 101)
    assert drained(queue(*costs), BUDGET._replace(overhead=5)) == [[10, 11, 12], [100, 99, 101]]
    assert drained(queue(*costs), BUDGET._replace(overhead=0)) == [[cost] for cost in costs]


def test_where_padding_is_cheap_lengths_mix() -> None:
    waiting = queue(10, 100, 11, 99, 12, 101)
    assert drained(waiting, BUDGET._replace(overhead=20, padding=1 / 32)) == [[10, 11, 12, 99, 100, 101]]


def test_a_longer_one_that_does_not_fit_keeps_no_shorter_one_out() -> None:
    assert drained(queue(10, 25, 1, 1), BUDGET._replace(cost=40)) == [[10, 1, 1], [25]]


def test_parameters_are_shared() -> None:
    waiting = queue(1, 1)
    for cost in (2, 2):
        waiting.add(QueuedInput(call(["a list"]), 0, None), cost)
    assert drained(waiting, BUDGET) == [[1, 1], [2, 2]]


def test_nothing_is_overtaken_by_what_came_much_later() -> None:
    waiting = BatchQueue()
    for cost, arrived in ((10, 0.0), (30, 0.1), (10, MAX_OVERTAKING_S * 0.9), (10, MAX_OVERTAKING_S * 1.1)):
        waiting.add(QueuedInput(call(arrived=arrived), 0, None), cost)
    budget = BUDGET._replace(overhead=1)
    assert [item.call.arrived for item in waiting.next(budget)] == [0.0, MAX_OVERTAKING_S * 0.9]
    assert drained(waiting, budget) == [[30], [10]]


def test_who_has_gone_leaves() -> None:
    waiting, gone = BatchQueue(), call()
    for one in (gone, call(), gone, call(), gone):
        waiting.add(QueuedInput(one, 0, None), 5)
    gone.cancelled = True
    assert drained(waiting, BUDGET) == [[5, 5]]
    assert waiting.cost == 0


def test_choosing_among_very_many_is_quick() -> None:
    waiting = queue(*(place * 7919 % 509 + 1 for place in range(20_000)))
    begin = time.perf_counter()
    for _ in range(100):
        assert waiting.next(BUDGET._replace(overhead=32))
    assert (time.perf_counter() - begin) / 100 < 0.01
    late = BatchQueue()
    for place in range(3 * MAX_COMPARED):
        late.add(QueuedInput(call(arrived=0.0 if place == 0 else 9.0), 0, None), 1)
    assert len(late.next(BUDGET)) == 1


@given(
    costs=st.lists(st.integers(1, 300), max_size=60),
    items=st.integers(1, 20),
    cost=st.integers(1, 500),
    overhead=st.floats(0, 100),
    padding=st.sampled_from([1.0, 1 / 32]),
)
@settings(deadline=None)
def test_all_are_served_within_the_limits_oldest_first(
    costs: list[int], items: int, cost: int, overhead: float, padding: float
) -> None:
    waiting = queue(*costs)
    left = list(range(1, len(costs) + 1))
    while batch := waiting.next(BatchBudget(items, cost, overhead, padding)):
        ages = [item.order[1] for item in batch]
        assert ages[0] == left[0]
        left = [age for age in left if age not in ages]
        sizes = [item.cost for item in batch]
        padded = max(sizes) * len(sizes) - sum(sizes)
        assert len(batch) <= items
        assert len(batch) == 1 or sum(sizes) + padding * padded <= cost + 1e-6
        assert padding * padded <= overhead + 1e-6
    assert not left and waiting.cost == 0
