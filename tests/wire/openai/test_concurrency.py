"""Several calls at once: fair merging of streams, and cancellation."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from deployments.errors import ModelNotReady, Overloaded
from deployments.wire.openai.concurrency import gather_or_cancel, merge_streams


class NumberStream:
    """A stream of `length` numbers, and of an error if one is given; remembers whether it was closed."""

    def __init__(self, length: int, error: Exception | None = None) -> None:
        self.length, self.error, self.closed = length, error, False

    async def chunks(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(self.length):
                yield number
            if self.error:
                raise self.error
        finally:
            self.closed = True


async def test_merged_streams_take_turns() -> None:
    streams = [NumberStream(length) for length in (2, 0, 4)]
    chunks = [pair async for pair in merge_streams([stream.chunks() for stream in streams])]
    assert chunks == [(0, 0), (2, 0), (0, 1), (2, 1), (2, 2), (2, 3)]
    assert all(stream.closed for stream in streams)


async def test_error_in_a_merged_stream_closes_all_streams() -> None:
    streams = [NumberStream(100), NumberStream(2, ModelNotReady("gone")), NumberStream(100)]
    merged = merge_streams([stream.chunks() for stream in streams])
    chunks = [await anext(merged) for _ in range(7)]
    assert chunks[3:] == [(0, 1), (1, 1), (2, 1), (0, 2)]
    with pytest.raises(ModelNotReady, match="gone"):
        await anext(merged)
    assert all(stream.closed for stream in streams)


@pytest.mark.parametrize("num_chunks", [1, 2, 3])
async def test_closing_a_merged_stream_closes_all_streams(num_chunks: int) -> None:
    streams = [NumberStream(100), NumberStream(100), NumberStream(100)]
    merged = merge_streams([stream.chunks() for stream in streams])
    for _ in range(num_chunks):
        await anext(merged)
    assert not any(stream.closed for stream in streams)
    await merged.aclose()
    assert all(stream.closed for stream in streams)


async def test_gather_cancels_the_rest_after_an_error() -> None:
    cancelled = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise Overloaded("full")

    with pytest.raises(Overloaded):
        await gather_or_cancel([forever(), fail()])
    await asyncio.wait_for(cancelled.wait(), 1)
