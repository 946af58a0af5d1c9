"""The updates of running sequences on their way to the event loops of their callers."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from deployments.generation.sequence import Sequence, Update
from deployments.generation.settings import SampledToken


class UpdateDispatcher:
    """Collects the updates of sequences; `deliver` sends them with one call for each event loop."""

    def __init__(self) -> None:
        self._updates: dict[asyncio.AbstractEventLoop, list[tuple[Sequence, Update]]] = defaultdict(list)

    def append_tokens(self, sequences: Iterable[Sequence], tokens: Iterable[SampledToken]) -> None:
        """Append each sequence's next token; a sequence whose token cannot be decoded fails alone."""
        for sequence, token in zip(sequences, tokens, strict=True):
            try:
                chunks = sequence.append_token(token)
            except BaseException as error:  # a panic in a tokenizer is no Exception
                self.fail([sequence], error)
                continue
            if chunks:
                self._updates[sequence.loop].append((sequence, chunks))
            if sequence.finished:
                self._updates[sequence.loop].append((sequence, None))

    def fail(self, sequences: Iterable[Sequence], error: BaseException) -> None:
        """Finish sequences with an error."""
        if not isinstance(error, Exception) or isinstance(error, StopIteration):  # a future rejects these
            error = RuntimeError(repr(error))
        for sequence in sequences:
            sequence.finished = True
            self._updates[sequence.loop].append((sequence, error))

    def deliver(self) -> list[Sequence]:
        """Send the updates. Returns the sequences whose event loop is closed, so that no caller waits."""
        updates, self._updates = self._updates, defaultdict(list)
        orphans = []
        for loop, loop_updates in updates.items():
            try:
                loop.call_soon_threadsafe(_notify, loop_updates)
            except RuntimeError:  # the loop is closed
                orphans += [sequence for sequence, _ in loop_updates]
        return orphans


def _notify(updates: list[tuple[Sequence, Update]]) -> None:
    for sequence, update in updates:
        sequence.on_update(update)
