"""The interface of the engines that generate text: run sequences to their end, or stream their chunks."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from functools import partial

from deployments.generation.output import GeneratedChunk
from deployments.generation.sequence import Sequence, Update


class Engine(ABC):
    """Runs sequences together. Each sequence gets its updates in the event loop of its caller."""

    async def generate(self, sequences: list[Sequence]) -> None:
        """Run sequences until all are finished.

        Raises the first error that a sequence fails with. Cancelling the coroutine aborts all of them.
        """
        futures = [asyncio.get_running_loop().create_future() for _ in sequences]
        for sequence, future in zip(sequences, futures, strict=True):
            sequence.on_update = partial(_resolve, future)
        try:
            self._submit(sequences)
            await asyncio.gather(*futures)
        finally:
            self.abort(sequences)

    async def stream(self, sequence: Sequence) -> AsyncGenerator[GeneratedChunk, None]:
        """Yield a sequence's chunks. Raises the error that it fails with; closing the iterator aborts it."""
        updates: asyncio.Queue[Update] = asyncio.Queue()
        sequence.is_streaming, sequence.on_update = True, updates.put_nowait
        try:
            self._submit([sequence])
            while (update := await updates.get()) is not None:
                if isinstance(update, Exception):
                    raise update
                for chunk in update:
                    yield chunk
        finally:
            self.abort([sequence])

    def _submit(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            sequence.loop = asyncio.get_running_loop()
        self.submit(sequences)

    @property
    @abstractmethod
    def max_context_tokens(self) -> int:
        """The most tokens that a sequence may have, prompt included."""

    @abstractmethod
    def submit(self, sequences: list[Sequence]) -> None:
        """Start sequences. Raises `InferenceError` for a parameter that this engine does not support."""

    @abstractmethod
    def abort(self, sequences: list[Sequence]) -> None:
        """Stop sequences, whether they wait or run."""

    @abstractmethod
    def counters(self) -> dict[str, int]:
        """Return running totals of the work, and the number of running sequences."""

    @abstractmethod
    def close(self) -> None:
        """Stop the engine; unfinished sequences fail with `ModelNotReady`."""


def _resolve(future: "asyncio.Future[None]", update: Update) -> None:
    if future.done():
        return
    if isinstance(update, Exception):
        future.set_exception(update)
    else:
        future.set_result(None)
