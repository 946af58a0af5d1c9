"""Continuous batching: sequences join the running batch on arrival and leave it when they finish.

One iteration of the engine's thread runs at most one prefill pass for waiting sequences, then one decoding
step: a forward pass that gives every running sequence its next token. A runner may combine both in one pass.
"""

import threading
from math import inf
from typing import TYPE_CHECKING

from deployments.errors import ModelNotReady, out_of_memory
from deployments.generation.engine import Engine
from deployments.generation.running_batch import RunningBatch
from deployments.generation.sequence import Sequence
from deployments.generation.sequence_runner import SequenceRunner
from deployments.generation.updates import UpdateDispatcher
from deployments.generation.waiting_queue import WaitingQueue, group_by_length

if TYPE_CHECKING:
    import torch

# The cost of an empty pass on a CPU, in tokens: with more padding than that, two passes are faster. On a GPU
# another pass costs more than padding.
PASS_TOKENS = 32


class ContinuousBatching(Engine):
    """Runs the sequences of one model in one batch, and admits those in `waiting` as they fit."""

    def __init__(self, runner: SequenceRunner, waiting: WaitingQueue) -> None:
        self.runner, self.waiting = runner, waiting
        self.batch = RunningBatch(runner, waiting)
        self._max_padding = PASS_TOKENS if runner.pads and runner.device.type == "cpu" else inf
        self._admitted: list[Sequence] = []
        self._updates = UpdateDispatcher()
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.Lock()
        self._steps = self._tokens = 0

    @property
    def max_context_tokens(self) -> int:
        return self.waiting.max_cached_tokens

    def submit(self, sequences: list[Sequence]) -> None:
        self.waiting.put(sequences)
        with self._thread_lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="generate", daemon=True)
                self._thread.start()

    def abort(self, sequences: list[Sequence]) -> None:
        self.waiting.abort(sequences)

    def counters(self) -> dict[str, int]:
        """Count the tokens and steps so far, and the sequences that run and wait now."""
        return {
            "generated_tokens": self._tokens,
            "steps": self._steps,
            "running": len({*self.batch.sequences, *self._admitted}),
            "waiting": len(self.waiting),
        }

    def close(self) -> None:
        self.waiting.close()

    def _run(self) -> None:
        """Iterate until the queue is closed: the thread's target."""
        import torch

        with torch.inference_mode():
            while not self.waiting.closed:
                self._iterate()
                if not self.batch.sequences:
                    self.waiting.wait()
        sequences = [*self.batch.sequences, *self.waiting.drain()]
        self._updates.fail(sequences, ModelNotReady("the model is being replaced"))
        self.batch.clear()
        self._deliver()

    def _iterate(self) -> None:
        """Run one iteration; an unexpected error fails all running sequences, but not the thread."""
        try:
            self._admit_and_decode()
        except BaseException as error:
            self._updates.fail({*self.batch.sequences, *self._admitted}, error)
            self._admitted = []
            self.batch.clear()
        self._deliver()

    def _admit_and_decode(self) -> None:
        """Admit the waiting sequences that fit, and give every running sequence its next token."""
        self.batch.evict_finished()
        self.batch.shrink_to(self.waiting.count_fitting(self.batch.sequences, self.runner.pads))
        max_sequences = min(self.batch.capacity, self.runner.max_sequences or inf)
        self._admitted = self.waiting.admit(self.batch.sequences, max_sequences, self.runner.pads)
        if not self._prefill_and_decode():
            for sequences in group_by_length(self._admitted, self._max_padding):
                self._prefill(sequences)
            self._admitted = []
            self._decode()
        if not self.batch.sequences:
            self._release_memory()

    def _release_memory(self) -> None:
        """Free the runner's memory while no sequence runs; waiting sequences may still lack memory."""
        self.runner.clear()
        if not self.waiting:
            self.batch.capacity = inf

    def _prefill_and_decode(self) -> bool:
        """Prefill the admitted sequences and decode the running ones in one pass, if possible.

        Returns whether the pass has run.
        """
        prefill_and_decode = self.runner.prefill_and_decode
        if not (self._admitted and self.batch.sequences and prefill_and_decode):
            return False
        try:
            logits, caches = prefill_and_decode(
                [sequence.token_ids for sequence in self._admitted],
                [sequence.generated[-1] for sequence in self.batch.sequences],
            )
        except Exception:  # two separate passes show which sequences fail
            return False
        self.batch.append(caches, self._admitted, list(range(len(self._admitted))))
        self._admitted = []
        self._append_tokens(logits)
        return True

    def _prefill(self, sequences: list[Sequence]) -> None:
        """Prefill sequences, sample their next tokens and append them to the batch."""
        try:
            return self._prefill_together(sequences)
        except Exception as error:
            retry = self._prefill_half if out_of_memory(error) else self._prefill_singly
            failure = error.with_traceback(None) if out_of_memory(error) else error
        # After the `except` block the traceback is gone, and with it the tensors that it held.
        return retry([sequence for sequence in sequences if not sequence.finished], failure)

    def _prefill_together(self, sequences: list[Sequence]) -> None:
        if not sequences:
            return
        tokens, caches = self.batch.prefill(sequences)
        self._tokens += len(sequences)
        self._updates.append_tokens(sequences, tokens)
        self._deliver()
        if indices := [index for index, sequence in enumerate(sequences) if not sequence.finished]:
            self.batch.append(caches, sequences, indices)

    def _prefill_singly(self, sequences: list[Sequence], error: Exception) -> None:
        """Prefill sequences one by one, so that a bad one fails alone."""
        if len(sequences) <= 1:
            return self._updates.fail(sequences, error)
        for sequence in sequences:
            self._prefill([sequence])

    def _prefill_half(self, sequences: list[Sequence], error: Exception) -> None:
        """Prefill the older half and preempt the rest.

        A single sequence waits until a running one leaves; it fails if none runs.
        """
        half = len(sequences) // 2
        if not half and not self.batch.sequences:
            return self._updates.fail(sequences, error)
        if not half:
            self.batch.capacity = len(self.batch.sequences)
        self.waiting.preempt(sequences[half:])
        return self._prefill(sequences[:half])

    def _decode(self) -> None:
        logits = self.batch.decode()
        if logits is not None:
            self._append_tokens(logits)

    def _append_tokens(self, logits: "torch.Tensor") -> None:
        """Sample every running sequence's next token and evict the sequences that it finishes."""
        self._steps += 1
        tokens = self.batch.sample(logits)
        self._tokens += len(tokens)
        self._updates.append_tokens(self.batch.sequences, tokens)
        self.batch.evict_finished()

    def _deliver(self) -> None:
        if orphans := self._updates.deliver():
            self.waiting.abort(orphans)
