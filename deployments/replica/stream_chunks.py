"""Chunks of a streamed answer, collected into lists: a message costs more than a chunk."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

MAX_PENDING = 256  # chunks that wait for a slow reader


async def chunk_lists(
    chunks: AsyncGenerator[Any, None], pause_s: Callable[[], float]
) -> AsyncGenerator[list[Any], None]:
    """Yield the first chunk at once, then after each pause all that have come; the end at once.

    Takes no further chunk while `MAX_PENDING` wait for the reader.
    """
    pending: list[Any] = []
    changed, has_room = asyncio.Event(), asyncio.Event()

    async def pull() -> None:
        try:
            async for chunk in chunks:
                pending.append(chunk)
                changed.set()
                if len(pending) >= MAX_PENDING:
                    has_room.clear()
                    await has_room.wait()
        finally:
            await chunks.aclose()

    pulling = asyncio.get_running_loop().create_task(pull())
    pulling.add_done_callback(lambda _: changed.set())
    try:
        while not pulling.done() or pending:
            await changed.wait()
            changed.clear()
            if pending:
                chunk_list = pending[:]
                pending.clear()
                has_room.set()
                yield chunk_list
            await asyncio.wait({pulling}, timeout=pause_s())
        await pulling
    finally:
        pulling.cancel()
