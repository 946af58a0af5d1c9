"""Several answers at once: streams that take turns, and nothing left running."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from deployments.errors import ModelNotReady, Overloaded
from deployments.wire.openai.generation import merge, together


class Stream:
    """Counts to `length`; tells whether it was closed."""

    def __init__(self, length: int, fails: Exception | None = None) -> None:
        self.length, self.fails, self.closed = length, fails, False

    async def chunks(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(self.length):
                yield number
            if self.fails:
                raise self.fails
        finally:
            self.closed = True


async def test_streams_take_turns() -> None:
    streams = [Stream(length) for length in (2, 0, 4)]
    told = [pair async for pair in merge([stream.chunks() for stream in streams])]
    assert told == [(0, 0), (2, 0), (0, 1), (2, 1), (2, 2), (2, 3)]
    assert all(stream.closed for stream in streams)


async def test_the_first_failure_closes_all_streams() -> None:
    streams = [Stream(100), Stream(2, ModelNotReady("gone")), Stream(100)]
    merged = merge([stream.chunks() for stream in streams])
    told = [await anext(merged) for _ in range(7)]
    assert told[3:] == [(0, 1), (1, 1), (2, 1), (0, 2)]
    with pytest.raises(ModelNotReady, match="gone"):
        await anext(merged)
    assert all(stream.closed for stream in streams)


@pytest.mark.parametrize("taken", [1, 2, 3])
async def test_closing_a_merged_stream_closes_all(taken: int) -> None:
    streams = [Stream(100), Stream(100), Stream(100)]
    merged = merge([stream.chunks() for stream in streams])
    for _ in range(taken):
        await anext(merged)
    assert not any(stream.closed for stream in streams)
    await merged.aclose()
    assert all(stream.closed for stream in streams)


async def test_one_failure_stops_the_rest() -> None:
    stopped = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise Overloaded("full")

    with pytest.raises(Overloaded):
        await together([forever(), fail()])
    await asyncio.wait_for(stopped.wait(), 1)
