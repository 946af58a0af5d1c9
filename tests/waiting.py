"""Wait for the effect of another asyncio task."""

import asyncio
from collections.abc import Callable
from typing import Any


async def until(condition: Callable[[], Any]) -> None:
    """Wait until `condition` is true. Raises `TimeoutError` after 5,000 checks, about 5 s."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError
