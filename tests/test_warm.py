"""Spare workers: how many are asked for, and when."""

from typing import Any

import pytest

from deployments import warm


async def test_spares_are_there_before_the_first_model_and_again_for_each_that_took_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(warm, "prestart_workers", lambda count, *_: asked.append(count))
    spares = warm.Spares(2, {})
    for replicas in (0, 0, 1, 6, 3, 4):
        await spares.refill(replicas)
    assert asked == [2, 1, 2, 1]


async def test_without_spares_nothing_is_asked_for_nor_again_where_it_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def fail(count: int, *_: Any) -> None:
        asked.append(count)
        raise OSError("no such node")

    monkeypatch.setattr(warm, "prestart_workers", fail)
    for count in (0, 1):
        spares = warm.Spares(count, {})
        for replicas in (0, 1, 2):
            await spares.refill(replicas)
    assert asked == [1]
