"""Continuous batching: one batch without an end, which answers join when they come and leave when done.

An iteration of the engine's own thread is at most one pass that reads the prompts of waiting rows, then one
step: a forward pass that gives every running answer its next token. Where the network can, both are one pass.
"""

import threading
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from deployments.errors import ModelNotReady, out_of_memory
from deployments.generation.engine import Engine
from deployments.generation.running_batch import RunningBatch
from deployments.generation.sequence import Row
from deployments.generation.sequence_runner import SequenceRunner
from deployments.generation.updates import Updates
from deployments.generation.waiting_queue import Waiting, of_like_length

if TYPE_CHECKING:
    import torch

# What a pass costs with nothing in it, on a processor: with more padding than that, two passes are quicker.
# On a GPU a pass more costs more than padding does.
PASS_TOKENS = 32


class ContinuousBatching(Engine):
    """Runs the answers of one model in one batch: those in `waiting` join it as there is room."""

    def __init__(self, network: SequenceRunner, waiting: Waiting) -> None:
        self.network, self.waiting = network, waiting
        self.batch = RunningBatch(network, waiting)
        self._most_padding = PASS_TOKENS if network.pads and network.device.type == "cpu" else inf
        self._reading: list[Row] = []
        self._updates = Updates()
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
        """Count the tokens generated and the steps made so far, and the rows that run now and that wait."""
        return {
            "generated_tokens": self._tokens,
            "steps": self._steps,
            "running": len({*self.batch.rows, *self._reading}),
            "waiting": len(self.waiting),
        }

    def close(self) -> None:
        self.waiting.close()

    def _work(self) -> None:
        import torch

        with torch.inference_mode():
            while not self.waiting.closed:
                self._iterate()
                if not self.batch.rows:
                    self.waiting.wait()
        rows = [*self.batch.rows, *self.waiting.take_all()]
        self._updates.fail(rows, ModelNotReady("the model is being replaced"))
        self.batch.clear()
        self._deliver()

    def _iterate(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self._updates.fail({*self.batch.rows, *self._reading}, error)
            self._reading = []
            self.batch.clear()
        self._deliver()

    def _run(self) -> None:
        """Let waiting rows join as far as there is room, and give every row its next token."""
        self.batch.drop_ended()
        self.batch.shrink(self.waiting.fit(self.batch.rows, self.network.pads))
        most = min(self.batch.capacity, self.network.most or inf)
        self._reading = self.waiting.take(self.batch.rows, most, self.network.pads)
        if not self._read_beside_step():
            for rows in of_like_length(self._reading, self._most_padding):
                self._read(rows)
            self._reading = []
            self._step()
        if not self.batch.rows:
            self._rest()

    def _rest(self) -> None:
        """Free the network's memory while no row runs; rows that wait may still find it short."""
        self.network.clear()
        if not self.waiting:
            self.batch.capacity = inf

    def _read_beside_step(self) -> bool:
        """Take a step and read new rows in the same pass. Returns whether that was possible."""
        read_beside_step = self.network.read_beside_step
        if not (self._reading and self.batch.rows and read_beside_step):
            return False
        try:
            logits, read = read_beside_step(
                [row.ids for row in self._reading], [row.generated[-1] for row in self.batch.rows]
            )
        except Exception:  # two passes of their own show which rows have failed
            return False
        self.batch.join(read, self._reading, list(range(len(self._reading))))
        self._reading = []
        self._advance(logits)
        return True

    def _read(self, rows: list[Row]) -> None:
        """Read what rows have so far, choose their next tokens, and let them join."""
        try:
            return self._read_together(rows)
        except Exception as error:
            again = self._read_fewer if out_of_memory(error) else self._read_each
            failure = error.with_traceback(None) if out_of_memory(error) else error
        # After the `except` block the traceback is gone, and with it the tensors that it held.
        return again([row for row in rows if not row.ended], failure)

    def _read_together(self, rows: list[Row]) -> None:
        if not rows:
            return
        choices, read = self.batch.read(rows)
        self._tokens += len(rows)
        self._updates.push(rows, choices)
        self._deliver()
        if stay := [place for place, row in enumerate(rows) if not row.ended]:
            self.batch.join(read, rows, stay)

    def _read_each(self, rows: list[Row], error: Exception) -> None:
        """Read rows one by one, so that a bad one fails alone."""
        if len(rows) <= 1:
            return self._updates.fail(rows, error)
        for row in rows:
            self._read([row])

    def _read_fewer(self, rows: list[Row], error: Exception) -> None:
        """Read half of the rows now; a single one waits until a running row has left, if any runs."""
        half = len(rows) // 2
        if not half and not self.batch.rows:
            return self._updates.fail(rows, error)
        if not half:
            self.batch.capacity = len(self.batch.rows)
        self.waiting.put_back(rows[half:])
        return self._read(rows[:half])

    def _step(self) -> None:
        logits = self.batch.step()
        if logits is not None:
            self._advance(logits)

    def _advance(self, logits: "torch.Tensor") -> None:
        """Give every running row the token that follows."""
        self._steps += 1
        choices = self.batch.choose(logits)
        self._tokens += len(choices)
        self._updates.push(self.batch.rows, choices)
        self.batch.drop_ended()

    def _deliver(self) -> None:
        if orphans := self._updates.deliver():
            self.waiting.drop(orphans)
