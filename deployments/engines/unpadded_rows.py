"""Running rows without padding: what every engine that reads them so has in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class UnpaddedRows(ABC):
    """Runs rows with a cache each: a pass reads any number of tokens more in every one of them.

    So rows join and leave without a copy of what is there. `kept` is the kind of a row's cache, which has a
    `length` in tokens.
    """

    most = None
    pads, undoes = False, True
    kept: type[Any]

    def __init__(self, model: Any) -> None:
        self.model, self.device = model, model.device
        self.rows: list[Any] = []

    def clear(self) -> None:
        self.rows = []

    def read(self, rows: Sequence[list[int]]) -> tuple["torch.Tensor", list[Any]]:
        kept = [self.kept() for _ in rows]
        return self._forward(rows, kept), kept

    def read_beside_step(
        self, rows: Sequence[list[int]], tokens: Sequence[int]
    ) -> tuple["torch.Tensor", list[Any]]:
        kept = [self.kept() for _ in rows]
        return self._forward([*([token] for token in tokens), *rows], [*self.rows, *kept]), kept

    def join(self, read: list[Any], places: list[int]) -> None:
        self.rows = self.rows + [read[place] for place in places]

    def step(self, tokens: list[int]) -> "torch.Tensor":
        return self._forward([[token] for token in tokens], self.rows)

    def keep(self, places: list[int]) -> None:
        self.rows = [self.rows[place] for place in places]

    @abstractmethod
    def _forward(self, rows: Sequence[list[int]], kept: list[Any]) -> "torch.Tensor":
        """Read tokens more in rows, after those that `kept` has: the logits [rows, vocabulary] after them.

        A pass that fails leaves the rows as they were.
        """
