"""Chunks of a stream: which of them travel together, and how many wait for a slow reader."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from deployments.replica.stream_chunks import MAX_PENDING, chunk_lists


class Source:
    def __init__(self) -> None:
        self.produced = 0
        self.closed = False

    async def chunks(self, count: int, pause_s: float = 0.0) -> AsyncGenerator[int, None]:
        try:
            for number in range(count):
                self.produced += 1
                yield number
                await asyncio.sleep(pause_s)
        finally:
            self.closed = True


async def test_all_chunks_come_in_order_the_first_alone() -> None:
    lists = [chunks async for chunks in chunk_lists(Source().chunks(1000), lambda: 0.001)]
    assert [chunk for chunks in lists for chunk in chunks] == [*range(1000)]
    assert len(lists[0]) == 1
    assert len(lists) < 500


async def test_a_pause_longer_than_the_answer_does_not_delay_its_end() -> None:
    async with asyncio.timeout(5):
        lists = [chunks async for chunks in chunk_lists(Source().chunks(20), lambda: 60.0)]
    assert [len(chunks) for chunks in lists] == [1, 19]


async def test_a_source_waits_for_a_slow_reader() -> None:
    source = Source()
    lists = chunk_lists(source.chunks(100_000), lambda: 0.0)
    await anext(lists)
    await asyncio.sleep(0.1)
    assert source.produced == 1 + MAX_PENDING
    received = 1
    while received < 10 * MAX_PENDING:
        chunks = await anext(lists)
        assert len(chunks) <= MAX_PENDING
        received += len(chunks)
    await lists.aclose()
    await asyncio.sleep(0)
    assert source.closed


async def test_an_error_comes_after_the_chunks_before_it() -> None:
    async def failing() -> AsyncGenerator[int, None]:
        yield 1
        yield 2
        raise ValueError("late")

    received: list[int] = []

    async def read() -> None:
        async for chunks in chunk_lists(failing(), lambda: 0.0):
            received.extend(chunks)

    with pytest.raises(ValueError, match="late"):
        await read()
    assert received == [1, 2]
