"""Spare workers: how many are asked for, and when."""

from typing import Any

import pytest

from deployments.cluster import warm_workers as warm


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str | None]]:
    asked: list[tuple[int, str | None]] = []
    monkeypatch.setattr(
        warm, "prestart_workers", lambda count, env, keep_s, only: asked.append((count, only))
    )
    return asked


async def test_spares_are_there_before_the_first_model_and_again_where_one_was_taken(
    asked: list[tuple[int, str | None]],
) -> None:
    spares = warm.WarmWorkerPool(2, {})
    for replicas in ({}, {"a": "x"}, {"a": "x"}, {"a": "x"}, {"b": "y"}, {"b": "y"}, {}):
        await spares.refill(replicas)
    assert asked == [(2, None), (1, "x"), (1, "y")], "one that replaces another has taken one as well"


async def test_many_replicas_at_once_are_made_up_for_together(asked: list[tuple[int, str | None]]) -> None:
    spares = warm.WarmWorkerPool(2, {})
    for count in (0, 1, 4, 9, 9, 9):
        await spares.refill({str(id): "x" for id in range(count)})
    assert asked == [(2, None), (2, "x")]


async def test_without_spares_nothing_is_asked_for(asked: list[tuple[int, str | None]]) -> None:
    spares = warm.WarmWorkerPool(0, {})
    for replicas in ({}, {"a": "x"}, {"a": "x"}):
        await spares.refill(replicas)
    assert not asked


async def test_a_node_that_does_not_answer_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no such node")

    monkeypatch.setattr(warm, "prestart_workers", fail)
    spares = warm.WarmWorkerPool(1, {})
    for replicas in ({}, {"a": "x"}, {"a": "x"}):
        await spares.refill(replicas)
