"""The next batch: the oldest input, its neighbours by cost, and little padding."""

import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.replica.batch_queue import (
    MAX_COMPARED,
    MAX_OVERTAKE_S,
    BatchBudget,
    BatchQueue,
    PendingRequest,
    QueuedInput,
)

BUDGET = BatchBudget(items=100, cost=1000, overhead=1e9, padding=1.0)


def pending(params: Any = None, arrived_at: float = 0.0) -> PendingRequest:
    return PendingRequest(params, [1], arrived_at, done=None)  # type: ignore[arg-type]


def queue_of(*costs: int, params: Any = None) -> BatchQueue:
    queue = BatchQueue()
    for cost in costs:
        queue.add(QueuedInput(pending(params), 0, cost), cost)
    return queue


def drain(queue: BatchQueue, budget: BatchBudget) -> list[list[int]]:
    batches = []
    while batch := queue.next(budget):
        batches.append([item.cost for item in batch])
    return batches


def test_batch_holds_the_oldest_and_its_neighbours_by_cost() -> None:
    queue = queue_of(50, 10, 90, 49, 52, 30)
    assert drain(queue, BUDGET._replace(items=3)) == [[50, 49, 52], [10, 30, 90]]


def test_batch_cost_includes_padding() -> None:
    assert drain(queue_of(*[10] * 7), BUDGET._replace(cost=30)) == [[10] * 3, [10] * 3, [10]]
    assert drain(queue_of(5, 10, 5, 5), BUDGET._replace(cost=20)) == [[5, 5, 5], [10]]
    assert drain(queue_of(500, 1), BUDGET._replace(cost=30)) == [[500], [1]]


def test_padding_costs_at_most_the_overhead_of_a_pass() -> None:
    costs = (10, 100, 11, 99, 12, 101)
    assert drain(queue_of(*costs), BUDGET._replace(overhead=5)) == [[10, 11, 12], [100, 99, 101]]
    assert drain(queue_of(*costs), BUDGET._replace(overhead=0)) == [[cost] for cost in costs]


def test_cheap_padding_mixes_lengths() -> None:
    queue = queue_of(10, 100, 11, 99, 12, 101)
    assert drain(queue, BUDGET._replace(overhead=20, padding=1 / 32)) == [[10, 11, 12, 99, 100, 101]]


def test_longer_input_that_does_not_fit_does_not_exclude_shorter_ones() -> None:
    assert drain(queue_of(10, 25, 1, 1), BUDGET._replace(cost=40)) == [[10, 1, 1], [25]]


def test_batch_shares_parameters() -> None:
    queue = queue_of(1, 1)
    for cost in (2, 2):
        queue.add(QueuedInput(pending(["a list"]), 0, None), cost)
    assert drain(queue, BUDGET) == [[1, 1], [2, 2]]


def test_much_later_inputs_do_not_overtake() -> None:
    queue = BatchQueue()
    for cost, arrived in ((10, 0.0), (30, 0.1), (10, MAX_OVERTAKE_S * 0.9), (10, MAX_OVERTAKE_S * 1.1)):
        queue.add(QueuedInput(pending(arrived_at=arrived), 0, None), cost)
    budget = BUDGET._replace(overhead=1)
    assert [item.request.arrived_at for item in queue.next(budget)] == [0.0, MAX_OVERTAKE_S * 0.9]
    assert drain(queue, budget) == [[30], [10]]


def test_cancelled_inputs_are_dropped() -> None:
    queue, cancelled = BatchQueue(), pending()
    for request in (cancelled, pending(), cancelled, pending(), cancelled):
        queue.add(QueuedInput(request, 0, None), 5)
    cancelled.cancelled = True
    assert drain(queue, BUDGET) == [[5, 5]]
    assert queue.cost == 0


def test_next_batch_of_a_long_queue_is_fast() -> None:
    queue = queue_of(*(index * 7919 % 509 + 1 for index in range(20_000)))
    started_at = time.perf_counter()
    for _ in range(100):
        assert queue.next(BUDGET._replace(overhead=32))
    assert (time.perf_counter() - started_at) / 100 < 0.01
    late = BatchQueue()
    for index in range(3 * MAX_COMPARED):
        late.add(QueuedInput(pending(arrived_at=0.0 if index == 0 else 9.0), 0, None), 1)
    assert len(late.next(BUDGET)) == 1


@given(
    costs=st.lists(st.integers(1, 300), max_size=60),
    items=st.integers(1, 20),
    cost=st.integers(1, 500),
    overhead=st.floats(0, 100),
    padding=st.sampled_from([1.0, 1 / 32]),
)
@settings(deadline=None)
def test_all_inputs_run_within_the_limits_oldest_first(
    costs: list[int], items: int, cost: int, overhead: float, padding: float
) -> None:
    queue = queue_of(*costs)
    left = list(range(1, len(costs) + 1))
    while batch := queue.next(BatchBudget(items, cost, overhead, padding)):
        ages = [item.order[1] for item in batch]
        assert ages[0] == left[0]
        left = [age for age in left if age not in ages]
        sizes = [item.cost for item in batch]
        padded = max(sizes) * len(sizes) - sum(sizes)
        assert len(batch) <= items
        assert len(batch) == 1 or sum(sizes) + padding * padded <= cost + 1e-6
        assert padding * padded <= overhead + 1e-6
    assert not left and queue.cost == 0
