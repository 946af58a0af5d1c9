"""The sequences that run now, and what happens to them when memory is short."""

from collections.abc import Callable
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from deployments.errors import out_of_memory
from deployments.generation.sampler import Sampler
from deployments.generation.sequence import Sequence
from deployments.generation.sequence_runner import SequenceRunner
from deployments.generation.settings import SampledToken
from deployments.generation.waiting_queue import WaitingQueue, oldest_first

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")


class RunningBatch:
    """The running `sequences`, in the order in which the runner has them.

    When memory is short, the batch preempts the younger half of its sequences: they return to the front of
    the queue and continue later from the same token. `capacity` estimates how many sequences fit in memory.
    """

    def __init__(self, runner: SequenceRunner, waiting: WaitingQueue) -> None:
        self.runner, self.waiting = runner, waiting
        self.sequences: list[Sequence] = []
        self.capacity = inf
        self._sampler: Sampler | None = None

    def prefill(self, sequences: list[Sequence]) -> tuple[list[SampledToken], Any]:
        """Run the tokens of new sequences: their next tokens, and the caches that `append` takes."""
        logits, caches = self.runner.prefill([sequence.token_ids for sequence in sequences])
        return Sampler(sequences, logits.shape[-1], logits.device)(logits), caches

    def append(self, caches: Any, sequences: list[Sequence], indices: list[int]) -> None:
        """Append the sequences at `indices` of a prefill to the batch."""
        self.runner.append(caches, indices)
        self._set_sequences([*self.sequences, *(sequences[index] for index in indices)])

    def decode(self) -> "torch.Tensor | None":
        """Run a decoding step of every sequence, or of the older ones when memory is short.

        Returns the logits [sequences, vocabulary]; None if no sequence is left.
        """
        while self.sequences:
            logits = self._preempt_without_memory(
                lambda: self.runner.decode([sequence.generated[-1] for sequence in self.sequences])
            )
            if logits is not None:
                return logits
            if not self.runner.can_roll_back:
                self.shrink_to(0)
        return None

    def sample(self, logits: "torch.Tensor") -> list[SampledToken]:
        """Sample every sequence's next token, or that of the older sequences when memory is short."""
        before = self.sequences
        while self.sequences:
            indices = [before.index(sequence) for sequence in self.sequences]
            tokens = self._preempt_without_memory(partial(self._sample, logits, indices))
            if tokens is not None:
                return tokens
        return []

    def shrink_to(self, size: int) -> None:
        """Preempt all but the `size` oldest sequences."""
        if size < len(self.sequences):
            oldest = oldest_first(self.sequences)
            self.waiting.preempt(oldest[size:])
            self._select([self.sequences.index(sequence) for sequence in oldest[:size]])

    def evict_finished(self) -> None:
        """Remove the finished sequences."""
        indices = [index for index, sequence in enumerate(self.sequences) if not sequence.finished]
        if evicted := len(self.sequences) - len(indices):
            # Later sequences may need less memory: the capacity grows by one for each batch that finishes.
            self.capacity += evicted / self.capacity
            self._select(indices)

    def clear(self) -> None:
        """Remove all sequences and reset the capacity."""
        self._set_sequences([])
        self.capacity = inf
        self.runner.clear()

    def _set_sequences(self, sequences: list[Sequence]) -> None:
        self.sequences, self._sampler = sequences, None

    def _sample(self, logits: "torch.Tensor", indices: list[int]) -> list[SampledToken]:
        logits = logits if len(indices) == len(logits) else logits[indices]
        self._sampler = self._sampler or Sampler(self.sequences, logits.shape[-1], logits.device)
        return self._sampler(logits)

    def _preempt_without_memory(self, work: Callable[[], Result]) -> Result | None:
        """Return the result of `work`; if memory is short, preempt the younger half and return None."""
        try:
            return work()
        except Exception as error:
            if len(self.sequences) == 1 or not out_of_memory(error):
                raise
        # After the `except` block nothing refers to the error, whose traceback held the tensors of `work`.
        self.capacity = len(self.sequences) // 2
        self.shrink_to(len(self.sequences) // 2)
        return None

    def _select(self, indices: list[int]) -> None:
        """Continue with the sequences at `indices`; preempt them all if even that lacks memory."""
        self._set_sequences([self.sequences[index] for index in indices])
        try:
            return self.runner.select(indices)
        except Exception as error:
            if not out_of_memory(error):
                raise
        self.waiting.preempt(self.sequences)
        self._set_sequences([])
        self.runner.clear()
