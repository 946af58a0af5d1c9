"""Warm workers: how many the pool requests, and when."""

from typing import Any

import pytest

from deployments.cluster import warm_workers as warm


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str | None]]:
    requested: list[tuple[int, str | None]] = []
    monkeypatch.setattr(
        warm, "prestart_workers", lambda count, env, keep_s, only: requested.append((count, only))
    )
    return requested


async def test_refill_at_start_and_after_a_replica_started(
    requested: list[tuple[int, str | None]],
) -> None:
    spares = warm.WarmWorkerPool(2, {})
    for replicas in ({}, {"a": "x"}, {"a": "x"}, {"a": "x"}, {"b": "y"}, {"b": "y"}, {}):
        await spares.refill(replicas)
    assert requested == [(2, None), (1, "x"), (1, "y")], "one that replaces another has taken one as well"


async def test_refill_once_for_many_replicas(requested: list[tuple[int, str | None]]) -> None:
    spares = warm.WarmWorkerPool(2, {})
    for count in (0, 1, 4, 9, 9, 9):
        await spares.refill({str(id): "x" for id in range(count)})
    assert requested == [(2, None), (2, "x")]


async def test_pool_of_zero_starts_no_workers(requested: list[tuple[int, str | None]]) -> None:
    spares = warm.WarmWorkerPool(0, {})
    for replicas in ({}, {"a": "x"}, {"a": "x"}):
        await spares.refill(replicas)
    assert not requested


async def test_unreachable_node_does_not_fail_the_refill(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no such node")

    monkeypatch.setattr(warm, "prestart_workers", fail)
    spares = warm.WarmWorkerPool(1, {})
    for replicas in ({}, {"a": "x"}, {"a": "x"}):
        await spares.refill(replicas)
