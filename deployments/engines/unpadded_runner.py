"""Generation without padding: the common part of the runners with a separate cache for each sequence."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class BaseUnpaddedRunner(ABC):
    """A `SequenceRunner` with a separate cache for each sequence: a pass runs new tokens of any of them.

    So a sequence that joins or leaves copies no cache. `cache_type` is the class of a sequence's cache, which
    has a `length` in tokens.
    """

    max_sequences = None
    pads, can_roll_back = False, True
    cache_type: type[Any]

    def __init__(self, model: Any) -> None:
        self.model, self.device = model, model.device
        self.caches: list[Any] = []

    def clear(self) -> None:
        self.caches = []

    def prefill(self, prompts: Sequence[list[int]]) -> tuple["torch.Tensor", list[Any]]:
        caches = [self.cache_type() for _ in prompts]
        return self._forward(prompts, caches), caches

    def prefill_and_decode(
        self, prompts: Sequence[list[int]], tokens: Sequence[int]
    ) -> tuple["torch.Tensor", list[Any]]:
        caches = [self.cache_type() for _ in prompts]
        return self._forward([*([token] for token in tokens), *prompts], [*self.caches, *caches]), caches

    def append(self, caches: list[Any], indices: list[int]) -> None:
        self.caches = self.caches + [caches[index] for index in indices]

    def decode(self, tokens: list[int]) -> "torch.Tensor":
        return self._forward([[token] for token in tokens], self.caches)

    def select(self, indices: list[int]) -> None:
        self.caches = [self.caches[index] for index in indices]

    @abstractmethod
    def _forward(self, new_tokens: Sequence[list[int]], caches: list[Any]) -> "torch.Tensor":
        """Run the new tokens of sequences and add them to the caches.

        Returns the logits [sequences, vocabulary] after the last token of each. An error leaves the caches
        unchanged.
        """
