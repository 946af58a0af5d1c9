"""Continuous batching: one batch without an end, which answers join when they come and leave when done.

A turn of the engine's own thread is at most one pass that reads the prompts of those that waited, then one
step: a forward pass that gives every running answer its next token. Where the network can, both are one pass.
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, TypeVar

from deployments.engines.torch.generation import Apart, Joined
from deployments.engines.torch.unpadded_generation import Ragged
from deployments.errors import ModelNotReady, out_of_memory
from deployments.generation.engine import Engine
from deployments.generation.sampler import Chooser
from deployments.generation.sequence import News, Row
from deployments.generation.settings import Choice
from deployments.generation.waiting_queue import Waiting, of_like_length, oldest_first

if TYPE_CHECKING:
    import torch

# What a pass costs with nothing in it, on a processor: with more padding than that, two passes are quicker.
# On a GPU a pass more costs more than padding does.
PASS_TOKENS = 32

Made = TypeVar("Made")


class ContinuousBatching(Engine):
    """Runs the answers of one model in one batch: those in `waiting` join it as there is room."""

    def __init__(self, network: Joined | Apart | Ragged, waiting: Waiting) -> None:
        self.network, self.waiting = network, waiting
        self._most_padding = PASS_TOKENS if network.pads and network.device.type == "cpu" else inf
        self._reading: list[Row] = []
        self._rows: list[Row] = []
        self._chooser: Chooser | None = None
        self._room = inf  # for so many rows there is memory, as far as is known
        self._news: dict[asyncio.AbstractEventLoop, list[tuple[Row, News]]] = defaultdict(list)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._steps = self._tokens = 0

    @property
    def room(self) -> int:
        return self.waiting.room

    def begin(self, rows: Sequence[Row]) -> None:
        self.waiting.put(rows)
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="generate", daemon=True)
                self._thread.start()

    def drop(self, rows: Sequence[Row]) -> None:
        self.waiting.drop(rows)

    def counters(self) -> dict[str, int]:
        """Tokens generated and steps made so far; rows that run now, and that wait."""
        return {
            "generated_tokens": self._tokens,
            "steps": self._steps,
            "running": len({*self._rows, *self._reading}),
            "waiting": len(self.waiting),
        }

    def close(self) -> None:
        self.waiting.close()

    def _work(self) -> None:
        import torch

        with torch.inference_mode():
            while not self.waiting.closed:
                self._turn()
                if not self._rows:
                    self.waiting.wait()
        self._fail([*self._rows, *self.waiting.take_all()], ModelNotReady("the model is being replaced"))
        self._rows, self._chooser = [], None
        self.network.clear()
        self._tell()

    def _turn(self) -> None:
        try:
            self._let_go()
            self._leave(self.waiting.fit(self._rows, self.network.pads))
            most = min(self._room, self.network.most or inf)
            self._reading = self.waiting.take(self._rows, most, self.network.pads)
            if not self._read_beside_step():
                for alike in of_like_length(self._reading, self._most_padding):
                    self._read(alike)
                self._reading = []
                self._step()
            if not self._rows:
                self.network.clear()
                self._room = self._room if self.waiting else inf
        except BaseException as error:
            self._fail({*self._rows, *self._reading}, error)
            self._rows, self._reading, self._chooser, self._room = [], [], None, inf
            self.network.clear()
        self._tell()

    def _read_beside_step(self) -> bool:
        """Take a step, and read in the same pass; whether that went well."""
        if not (self._reading and self._rows and isinstance(self.network, Ragged)):
            return False
        try:
            logits, read = self.network.read(
                [row.ids for row in self._reading], [row.generated[-1] for row in self._rows]
            )
        except Exception:  # apart, then, it turns out whose fault it was
            return False
        self._steps += 1
        self.network.join(read, list(range(len(read))))
        self._rows, self._reading, self._chooser = [*self._rows, *self._reading], [], None
        self._choose(logits)
        return True

    def _read(self, rows: list[Row]) -> None:
        """Read what rows have so far, choose their next tokens, and let them join."""
        try:
            return self._read_together(rows)
        except Exception as error:
            again = self._read_fewer if out_of_memory(error) else self._read_each
            failure = error.with_traceback(None) if out_of_memory(error) else error
        # Out here the traceback is gone, and with it the tensors that it held.
        return again([row for row in rows if not row.ended], failure)

    def _read_together(self, rows: list[Row]) -> None:
        if not rows:
            return
        logits, read = self.network.read([row.ids for row in rows])
        self._push(rows, Chooser(rows, logits.shape[-1], logits.device)(logits))
        self._tell()
        if stay := [place for place, row in enumerate(rows) if not row.ended]:
            self.network.join(read, stay)
            self._rows, self._chooser = [*self._rows, *(rows[place] for place in stay)], None

    def _read_each(self, rows: list[Row], error: Exception) -> None:
        """One by one, so that a bad one fails alone."""
        if len(rows) <= 1:
            return self._fail(rows, error)
        for row in rows:
            self._read([row])

    def _read_fewer(self, rows: list[Row], error: Exception) -> None:
        """Half of them now; a single one when a row that runs has left, if any runs."""
        half = len(rows) // 2
        if not half and not self._rows:
            return self._fail(rows, error)
        if not half:
            self._room = len(self._rows)
        self.waiting.put_back(rows[half:])
        return self._read(rows[:half])

    def _step(self) -> None:
        """Give every running row its next token; where memory is short, the older ones."""
        while self._rows:
            logits = self._in_memory(lambda: self.network.step([row.generated[-1] for row in self._rows]))
            if logits is not None:
                self._steps += 1
                return self._choose(logits)
            if not self.network.undoes:
                self._leave(0)

    def _choose(self, logits: "torch.Tensor") -> None:
        """Give every running row the token that follows; where memory is short, the older ones."""
        began = self._rows
        while self._rows:
            places = [began.index(row) for row in self._rows]
            choices = self._in_memory(partial(self._choices, logits, places))
            if choices is not None:
                self._push(self._rows, choices)
                return self._let_go()

    def _choices(self, logits: "torch.Tensor", places: list[int]) -> list[Choice]:
        logits = logits if len(places) == len(logits) else logits[places]
        self._chooser = self._chooser or Chooser(self._rows, logits.shape[-1], logits.device)
        return self._chooser(logits)

    def _in_memory(self, work: Callable[[], Made]) -> Made | None:
        """What `work` makes; None where memory was too short, and the younger half of the rows have left."""
        try:
            return work()
        except Exception as error:
            if len(self._rows) == 1 or not out_of_memory(error):
                raise
        # Out here, as in `_read`, nothing holds the tensors of what was begun.
        self._room = len(self._rows) // 2
        self._leave(self._room)
        return None

    def _leave(self, stay: int) -> None:
        """Let all but the oldest rows wait again, before all others; they will go on where they are now."""
        if stay < len(self._rows):
            oldest = oldest_first(self._rows)
            self.waiting.put_back(oldest[stay:])
            self._keep([self._rows.index(row) for row in oldest[:stay]])

    def _push(self, rows: list[Row], choices: list[Choice]) -> None:
        self._tokens += len(rows)
        for row, choice in zip(rows, choices, strict=True):
            try:
                clear = row.push(choice)
            except BaseException as error:  # a panic in a tokenizer is no Exception
                self._fail([row], error)
                continue
            if clear:
                self._news[row.loop].append((row, clear))
            if row.ended:
                self._news[row.loop].append((row, None))

    def _fail(self, rows: Iterable[Row], error: BaseException) -> None:
        if not isinstance(error, Exception) or isinstance(error, StopIteration):  # no future takes these
            error = RuntimeError(repr(error))
        for row in rows:
            row.ended = True
            self._news[row.loop].append((row, error))

    def _let_go(self) -> None:
        """Leave out the rows that have ended, or that nobody waits for."""
        stay = [place for place, row in enumerate(self._rows) if not row.ended]
        if left := len(self._rows) - len(stay):
            self._room += left / self._room  # one more after each round of them: these may need less
            self._keep(stay)

    def _keep(self, places: list[int]) -> None:
        """Go on with the rows at `places`; where there is no memory to sort them out, read them anew."""
        self._rows, self._chooser = [self._rows[place] for place in places], None
        try:
            return self.network.keep(places)
        except Exception as error:
            if not out_of_memory(error):
                raise
        self.waiting.put_back(self._rows)
        self._rows = []
        self.network.clear()

    def _tell(self) -> None:
        """Hand the news over to the callers' event loops, in one call for each loop."""
        told, self._news = self._news, defaultdict(list)
        for loop, news in told.items():
            try:
                loop.call_soon_threadsafe(_hear, news)
            except RuntimeError:  # the loop is closed, and nobody waits any more
                self.waiting.drop([row for row, _ in news])


def _hear(news: list[tuple[Row, News]]) -> None:
    for row, one in news:
        row.hear(one)
