"""Several calls at once: gather their results, or merge their streams."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
_END = object()


async def gather_or_cancel(awaitables: Iterable[Awaitable[T]]) -> list[T]:
    """Return all results in order; if one fails, cancel the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def merge_streams(
    streams: Sequence[AsyncGenerator[Any, None]],
) -> AsyncGenerator[tuple[int, Any], None]:
    """Yield the index of a stream and its next chunk, as chunks arrive.

    The streams take turns: no stream yields a second chunk while another has one ready. Closing the merged
    stream closes all streams.
    """
    pending = {_next_chunk(stream): index for index, stream in enumerate(streams)}
    try:
        while pending:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for future in sorted(done, key=pending.__getitem__):
                chunk, index = future.result(), pending.pop(future)
                if chunk is not _END:
                    yield index, chunk
                    pending[_next_chunk(streams[index])] = index
    finally:
        for future in pending:
            future.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await asyncio.gather(*(stream.aclose() for stream in streams))


def _next_chunk(stream: AsyncGenerator[Any, None]) -> "asyncio.Future[Any]":
    return asyncio.ensure_future(anext(stream, _END))
