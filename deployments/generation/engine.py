"""What writes the answers of a language model: a caller waits for them whole, or hears them grow."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from functools import partial

from deployments.generation.output import GeneratedChunk
from deployments.generation.sequence import News, Row


class Engine(ABC):
    """Runs rows together. Each row hears its news in the event loop where it was asked for."""

    async def finish(self, rows: Sequence[Row]) -> None:
        """Run rows to their end. Raises what one of them fails with; cancelling ends them all."""
        ends = [asyncio.get_running_loop().create_future() for _ in rows]
        for row, end in zip(rows, ends, strict=True):
            row.hear = partial(_settle, end)
        try:
            self._start(rows)
            await asyncio.gather(*ends)
        finally:
            self.drop(rows)

    async def stream(self, row: Row) -> AsyncGenerator[GeneratedChunk, None]:
        """The chunks of one row as they come. Raises what it fails with; closing ends it."""
        came: asyncio.Queue[News] = asyncio.Queue()
        row.streams, row.hear = True, came.put_nowait
        try:
            self._start([row])
            while (news := await came.get()) is not None:
                if isinstance(news, Exception):
                    raise news
                for chunk in news:
                    yield chunk
        finally:
            self.drop([row])

    def _start(self, rows: Sequence[Row]) -> None:
        for row in rows:
            row.loop = asyncio.get_running_loop()
        self.begin(rows)

    @property
    @abstractmethod
    def room(self) -> int:
        """The most tokens that a row may come to, prompt included."""

    @abstractmethod
    def begin(self, rows: Sequence[Row]) -> None:
        """Let rows run from now on. Raises `InferenceError` for what this engine cannot do."""

    @abstractmethod
    def drop(self, rows: Sequence[Row]) -> None:
        """End rows, wherever they are."""

    @abstractmethod
    def counters(self) -> dict[str, int]:
        """Running totals of the work, and how many rows run."""

    @abstractmethod
    def close(self) -> None:
        """End it; answers that are not whole then fail with `ModelNotReady`."""


def _settle(end: "asyncio.Future[None]", news: News) -> None:
    if end.done():
        return
    if isinstance(news, Exception):
        end.set_exception(news)
    else:
        end.set_result(None)
