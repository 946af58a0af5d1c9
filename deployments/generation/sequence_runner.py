"""The interface between the scheduler and the engines' networks."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class SequenceRunner(Protocol):
    """Runs the forward passes of several sequences and keeps a cache for each of them.

    `max_sequences` is how many may run at once. `pads` says whether every sequence takes as much memory as
    the longest, `can_roll_back` whether a failed `decode` leaves the caches unchanged.
    """

    @property
    def device(self) -> Any: ...

    @property
    def max_sequences(self) -> int | None: ...

    @property
    def pads(self) -> bool: ...

    @property
    def can_roll_back(self) -> bool: ...

    @property
    def prefill_and_decode(
        self,
    ) -> "Callable[[Sequence[list[int]], Sequence[int]], tuple[torch.Tensor, Any]] | None":
        """Run `prefill` for prompts and `decode` for the running sequences' last tokens in one pass.

        The logits of the running sequences come first. None if the network cannot do both in one pass.
        """

    def prefill(self, prompts: Sequence[list[int]]) -> "tuple[torch.Tensor, Any]":
        """Run the token ids of new sequences.

        Returns the logits [prompts, vocabulary] after each prompt, and the caches that `append` takes.
        """

    def append(self, caches: Any, indices: list[int]) -> None:
        """Append the sequences at `indices` of a prefill to the running ones.

        An error leaves the running sequences unchanged.
        """

    def decode(self, tokens: list[int]) -> "torch.Tensor":
        """Run one more token of every running sequence. Returns the logits [sequences, vocabulary]."""

    def select(self, indices: list[int]) -> None:
        """Continue with the running sequences at `indices` only."""

    def clear(self) -> None:
        """Remove all sequences and their caches."""
