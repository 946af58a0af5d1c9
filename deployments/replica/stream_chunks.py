"""Chunks of a streamed answer, collected into lists: a message costs more than a chunk."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any


async def chunk_lists(
    chunks: AsyncGenerator[Any, None], pause_s: Callable[[], float]
) -> AsyncGenerator[list[Any], None]:
    """Yield the first chunk at once, then after each pause all that have come; the end at once."""
    pending: list[Any] = []
    changed = asyncio.Event()

    async def pull() -> None:
        try:
            async for chunk in chunks:
                pending.append(chunk)
                changed.set()
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
                yield chunk_list
            await asyncio.wait({pulling}, timeout=pause_s())
        await pulling
    finally:
        pulling.cancel()
