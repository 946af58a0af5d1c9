"""The queue of sequences that wait for admission to the running batch, oldest first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING

from deployments.errors import ModelNotReady
from deployments.generation.sequence import Sequence

if TYPE_CHECKING:
    from deployments.limits import Batching

DEFAULT_PREFILL_TOKENS = 8192  # tokens of one prefill pass, if `max_batch_tokens` is not set
CACHED_PASSES = 16  # the caches of all running sequences hold as many tokens as this many prefill passes
RESERVED_TOKENS = 1024  # cache space that a sequence reserves for new tokens; few generate their maximum


class WaitingQueue:
    """A queue between the event loops that put sequences in and the thread that admits them.

    `limits` returns the current limits: `max_batch_size` sequences run together, and one pass reads at most
    `max_batch_tokens`. The queue admits a sequence that would run alone even if it exceeds the limits.
    """

    def __init__(self, limits: Callable[[], "Batching"]) -> None:
        self.limits, self.closed = limits, False
        self._sequences: OrderedDict[Sequence, None] = OrderedDict()
        self._arrivals = count()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def max_prefill_tokens(self) -> int:
        """The most tokens, padding included, of one prefill pass; a longer prompt has a pass alone."""
        return self.limits().max_batch_tokens or DEFAULT_PREFILL_TOKENS

    @property
    def max_cached_tokens(self) -> int:
        """The most tokens that the caches of all running sequences hold together."""
        return CACHED_PASSES * self.max_prefill_tokens

    def put(self, sequences: list[Sequence]) -> None:
        """Add new sequences. Raises `ModelNotReady` after `close`."""
        with self._changed:
            if self.closed:
                raise ModelNotReady("the model is being replaced")
            for sequence in sequences:
                sequence.arrival_index = next(self._arrivals)
                self._sequences[sequence] = None
            self._changed.notify()

    def preempt(self, sequences: list[Sequence]) -> None:
        """Return admitted sequences to the front of the queue, unless they are finished."""
        with self._changed:
            for sequence in reversed(sequences):
                if not sequence.finished:
                    self._sequences[sequence] = None
                    self._sequences.move_to_end(sequence, last=False)

    def abort(self, sequences: list[Sequence]) -> None:
        """Mark sequences as finished and remove them from the queue."""
        with self._changed:
            for sequence in sequences:
                sequence.finished = True
                self._sequences.pop(sequence, None)

    def drain(self) -> list[Sequence]:
        """Remove and return all sequences."""
        with self._changed:
            sequences, self._sequences = [*self._sequences], OrderedDict()
        return sequences

    def close(self) -> None:
        """Reject further sequences."""
        with self._changed:
            self.closed = True
            self._changed.notify()

    def wait(self) -> None:
        """Block until a sequence waits, or until `close`."""
        with self._changed:
            while not (self.closed or self._sequences):
                self._changed.wait()

    def admit(self, running: list[Sequence], max_sequences: float, pads: bool) -> list[Sequence]:
        """Remove and return the oldest sequences that fit into one prefill pass beside those `running`.

        No sequence overtakes an older one. At most `max_sequences` run together, with those `running`. A
        runner that `pads` caches every sequence at the length of the longest.
        """
        max_sequences = min(self.limits().max_batch_size, max_sequences)
        max_prefill, max_cached = self.max_prefill_tokens, self.max_cached_tokens
        admitted: list[Sequence] = []
        longest, reserved = 0, [_reserved_length(sequence) for sequence in running]
        with self._changed:
            for sequence in self._sequences:
                longest = max(longest, sequence.length)
                reserved.append(_reserved_length(sequence))
                full = len(reserved) > max_sequences or _cached_tokens(reserved, pads) > max_cached
                pass_is_full = admitted and longest * (len(admitted) + 1) > max_prefill
                if (full and len(reserved) > 1) or pass_is_full:
                    break
                admitted.append(sequence)
            for sequence in admitted:
                del self._sequences[sequence]
        return admitted

    def count_fitting(self, running: list[Sequence], pads: bool) -> int:
        """Return how many of the `running` sequences, oldest first, fit into the caches at their length."""
        lengths = [sequence.length for sequence in oldest_first(running)]
        max_cached = self.max_cached_tokens
        while len(lengths) > 1 and _cached_tokens(lengths, pads) > max_cached:
            lengths.pop()
        return len(lengths)


def oldest_first(sequences: Iterable[Sequence]) -> list[Sequence]:
    """Return the sequences in the order of their arrival."""
    return sorted(sequences, key=lambda sequence: sequence.arrival_index)


def _reserved_length(sequence: Sequence) -> int:
    return min(sequence.max_length, sequence.length + RESERVED_TOKENS)


def _cached_tokens(lengths: list[int], pads: bool) -> int:
    return len(lengths) * max(lengths) if pads else sum(lengths)


def group_by_length(sequences: list[Sequence], max_padding: float) -> list[list[Sequence]]:
    """Return groups of similar length to prefill together, oldest first.

    A group has at most `max_padding` tokens of padding.
    """
    groups: list[list[Sequence]] = []
    padding = 0
    for sequence in sorted(sequences, key=lambda sequence: sequence.length):
        padding += len(groups[-1]) * (sequence.length - groups[-1][-1].length) if groups else 0
        if not groups or padding > max_padding:
            groups.append([])
            padding = 0
        groups[-1].append(sequence)
    return sorted(map(oldest_first, groups), key=lambda group: group[0].arrival_index)
