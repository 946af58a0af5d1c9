"""The updates of running rows on their way to the event loops of their callers."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from deployments.generation.sequence import News, Row
from deployments.generation.settings import Choice


class Updates:
    """Collects what rows have to say, until `deliver` hands it over in one call for each event loop."""

    def __init__(self) -> None:
        self._updates: dict[asyncio.AbstractEventLoop, list[tuple[Row, News]]] = defaultdict(list)

    def push(self, rows: Iterable[Row], choices: Iterable[Choice]) -> None:
        """Give each row its next token; a row whose text cannot be made fails alone."""
        for row, choice in zip(rows, choices, strict=True):
            try:
                clear = row.push(choice)
            except BaseException as error:  # a panic in a tokenizer is no Exception
                self.fail([row], error)
                continue
            if clear:
                self._updates[row.loop].append((row, clear))
            if row.ended:
                self._updates[row.loop].append((row, None))

    def fail(self, rows: Iterable[Row], error: BaseException) -> None:
        """End rows with an error."""
        if not isinstance(error, Exception) or isinstance(error, StopIteration):  # no future takes these
            error = RuntimeError(repr(error))
        for row in rows:
            row.ended = True
            self._updates[row.loop].append((row, error))

    def deliver(self) -> list[Row]:
        """Call the event loops. Returns the rows whose loop is closed, so that no caller waits for them."""
        updates, self._updates = self._updates, defaultdict(list)
        orphans = []
        for loop, loop_updates in updates.items():
            try:
                loop.call_soon_threadsafe(_hear, loop_updates)
            except RuntimeError:  # the loop is closed
                orphans += [row for row, _ in loop_updates]
        return orphans


def _hear(updates: list[tuple[Row, News]]) -> None:
    for row, update in updates:
        row.hear(update)
