"""What the scheduler needs of a network that runs sequences: one interface for all engines."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class SequenceRunner(Protocol):
    """Runs the forward passes of several rows, and keeps what the network has read of each.

    `most` is how many rows may run at once. `pads` says whether every row takes as much room as the longest
    one, `undoes` whether a step that fails leaves the rows as they were.
    """

    @property
    def device(self) -> Any: ...

    @property
    def most(self) -> int | None: ...

    @property
    def pads(self) -> bool: ...

    @property
    def undoes(self) -> bool: ...

    @property
    def read_beside_step(
        self,
    ) -> "Callable[[Sequence[list[int]], Sequence[int]], tuple[torch.Tensor, Any]] | None":
        """Read rows as `read` does, and in the same pass take a step, given the running rows' last tokens.

        The logits of the running rows come first. None where a pass cannot do both.
        """

    def read(self, rows: Sequence[list[int]]) -> "tuple[torch.Tensor, Any]":
        """Read the token ids of new rows.

        Returns the logits [rows, vocabulary] after each row, and the state that `join` takes.
        """

    def join(self, read: Any, places: list[int]) -> None:
        """Let the rows at `places` of those just read run after the others. Raises, or changes all."""

    def step(self, tokens: list[int]) -> "torch.Tensor":
        """Read one more token in every running row. Returns the logits [rows, vocabulary] after it."""

    def keep(self, places: list[int]) -> None:
        """Continue with the rows at `places` only."""

    def clear(self) -> None:
        """Forget all rows."""
