"""The rows that run now, and what happens to them where memory is short."""

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from deployments.errors import out_of_memory
from deployments.generation.sampler import Chooser
from deployments.generation.sequence import Row
from deployments.generation.sequence_runner import SequenceRunner
from deployments.generation.settings import Choice
from deployments.generation.waiting_queue import Waiting, oldest_first

if TYPE_CHECKING:
    import torch

Made = TypeVar("Made")


class RunningBatch:
    """The running `rows`, in the order in which the network has them.

    Where memory is short, the younger half of the rows leaves the batch: they wait again before all others,
    and continue later where they were. `capacity` is how many rows have memory, as far as is known.
    """

    def __init__(self, network: SequenceRunner, waiting: Waiting) -> None:
        self.network, self.waiting = network, waiting
        self.rows: list[Row] = []
        self.capacity = inf
        self._chooser: Chooser | None = None

    def read(self, rows: Sequence[Row]) -> tuple[list[Choice], Any]:
        """Read what new rows have so far: their next tokens, and the state that `join` takes."""
        logits, read = self.network.read([row.ids for row in rows])
        return Chooser(rows, logits.shape[-1], logits.device)(logits), read

    def join(self, read: Any, rows: Sequence[Row], places: list[int]) -> None:
        """Let the rows at `places` of those just read run."""
        self.network.join(read, places)
        self._run([*self.rows, *(rows[place] for place in places)])

    def step(self) -> "torch.Tensor | None":
        """Take a step with every row, or where memory is short with the older ones: their logits."""
        while self.rows:
            logits = self._within_memory(lambda: self.network.step([row.generated[-1] for row in self.rows]))
            if logits is not None:
                return logits
            if not self.network.undoes:
                self.shrink(0)
        return None

    def choose(self, logits: "torch.Tensor") -> list[Choice]:
        """Choose every row's next token from its logits, or where memory is short that of the older ones."""
        before = self.rows
        while self.rows:
            places = [before.index(row) for row in self.rows]
            choices = self._within_memory(partial(self._choices, logits, places))
            if choices is not None:
                return choices
        return []

    def shrink(self, stay: int) -> None:
        """Let all but the `stay` oldest rows wait again."""
        if stay < len(self.rows):
            oldest = oldest_first(self.rows)
            self.waiting.put_back(oldest[stay:])
            self._keep([self.rows.index(row) for row in oldest[:stay]])

    def drop_ended(self) -> None:
        """Leave out the rows that have ended."""
        stay = [place for place, row in enumerate(self.rows) if not row.ended]
        if left := len(self.rows) - len(stay):
            # The rows to come may need less memory: allow one row more each time that all have ended.
            self.capacity += left / self.capacity
            self._keep(stay)

    def clear(self) -> None:
        """Forget all rows, and what is known of the memory."""
        self._run([])
        self.capacity = inf
        self.network.clear()

    def _run(self, rows: list[Row]) -> None:
        self.rows, self._chooser = rows, None

    def _choices(self, logits: "torch.Tensor", places: list[int]) -> list[Choice]:
        logits = logits if len(places) == len(logits) else logits[places]
        self._chooser = self._chooser or Chooser(self.rows, logits.shape[-1], logits.device)
        return self._chooser(logits)

    def _within_memory(self, work: Callable[[], Made]) -> Made | None:
        """Return what `work` makes; None if memory was short and the younger half of the rows has left."""
        try:
            return work()
        except Exception as error:
            if len(self.rows) == 1 or not out_of_memory(error):
                raise
        # After the `except` block nothing refers to the error, whose traceback held the tensors of `work`.
        self.capacity = len(self.rows) // 2
        self.shrink(len(self.rows) // 2)
        return None

    def _keep(self, places: list[int]) -> None:
        """Continue with the rows at `places`; if memory is short even for that, read them again later."""
        self._run([self.rows[place] for place in places])
        try:
            return self.network.keep(places)
        except Exception as error:
            if not out_of_memory(error):
                raise
        self.waiting.put_back(self.rows)
        self._run([])
        self.network.clear()
