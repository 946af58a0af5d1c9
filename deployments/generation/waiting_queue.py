"""InferenceResults that wait for a place in the batch, oldest first, and how many may have one."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING

from deployments.errors import ModelNotReady
from deployments.generation.sequence import Row

if TYPE_CHECKING:
    from deployments.limits import Batching

READ_AT_ONCE = 8192  # tokens of one reading pass, where the limits do not say
PASSES_KEPT = 16  # how many reading passes' tokens the caches of all running rows may hold together
FORESEEN = 1024  # tokens more that a row is given room for; few write all that they may


class Waiting:
    """A queue between the event loops that put rows in and the thread that takes them out.

    `limits` tells at any time how many rows may run (`max_batch_size`), and how many tokens one pass may read
    (`max_batch_tokens`). A row that would be alone is always let in.
    """

    def __init__(self, limits: Callable[[], "Batching"]) -> None:
        self.limits, self.closed = limits, False
        self._rows: OrderedDict[Row, None] = OrderedDict()
        self._numbers = count()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def at_once(self) -> int:
        """The most tokens, padding counted, that one pass may read; a longer row is read alone."""
        return self.limits().max_batch_tokens or READ_AT_ONCE

    @property
    def room(self) -> int:
        """The most tokens that the caches of all running rows may hold together."""
        return PASSES_KEPT * self.at_once

    def put(self, rows: Sequence[Row]) -> None:
        """Let rows wait. Raises `ModelNotReady` after `close`."""
        with self._changed:
            if self.closed:
                raise ModelNotReady("the model is being replaced")
            for row in rows:
                row.number = next(self._numbers)
                self._rows[row] = None
            self._changed.notify()

    def put_back(self, rows: Sequence[Row]) -> None:
        """Let rows that were taken out wait before all others, unless they have ended."""
        with self._changed:
            for row in reversed(rows):
                if not row.ended:
                    self._rows[row] = None
                    self._rows.move_to_end(row, last=False)

    def drop(self, rows: Sequence[Row]) -> None:
        """End rows, wherever they are."""
        with self._changed:
            for row in rows:
                row.ended = True
                self._rows.pop(row, None)

    def take_all(self) -> list[Row]:
        """All that wait."""
        with self._changed:
            rows, self._rows = [*self._rows], OrderedDict()
        return rows

    def close(self) -> None:
        """Take no more rows in."""
        with self._changed:
            self.closed = True
            self._changed.notify()

    def wait(self) -> None:
        """Block until a row waits, or until `close`."""
        with self._changed:
            while not (self.closed or self._rows):
                self._changed.wait()

    def take(self, running: Sequence[Row], most: float, pads: bool) -> list[Row]:
        """The oldest, as many as one pass may read beside those `running`, and `most` rows together.

        None passes another by. A network that `pads` keeps every row as long as the longest.
        """
        most, at_once, room = min(self.limits().max_batch_size, most), self.at_once, self.room
        taken: list[Row] = []
        long, needs = 0, [_need(row) for row in running]
        with self._changed:
            for row in self._rows:
                long = max(long, row.length)
                needs.append(_need(row))
                full = len(needs) > most or _kept(needs, pads) > room
                if (full and len(needs) > 1) or (taken and long * (len(taken) + 1) > at_once):
                    break
                taken.append(row)
            for row in taken:
                del self._rows[row]
        return taken

    def fit(self, running: Sequence[Row], pads: bool) -> int:
        """How many of the rows `running`, from the oldest on, still have room when they have grown."""
        lengths, room = [row.length for row in oldest_first(running)], self.room
        while len(lengths) > 1 and _kept(lengths, pads) > room:
            lengths.pop()
        return len(lengths)


def oldest_first(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.number)


def _need(row: Row) -> int:
    return min(row.longest, row.length + FORESEEN)


def _kept(lengths: Sequence[int], pads: bool) -> int:
    return len(lengths) * max(lengths) if pads else sum(lengths)


def of_like_length(rows: Sequence[Row], most_padding: float) -> list[list[Row]]:
    """The rows in groups to read together, the oldest first, each with at most so much padding."""
    groups: list[list[Row]] = []
    padding = 0
    for row in sorted(rows, key=lambda row: row.length):
        padding += len(groups[-1]) * (row.length - groups[-1][-1].length) if groups else 0
        if not groups or padding > most_padding:
            groups.append([])
            padding = 0
        groups[-1].append(row)
    return sorted(map(oldest_first, groups), key=lambda group: group[0].number)
