"""The replica's scheduler: inputs that wait at the same time run together; none waits for a fuller batch.

Two threads: one encodes new inputs, the other runs the network, on a batch that it chooses at the moment it
is free, with the oldest input first. Where the model is idle and no input waits, the second thread does both.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import inf
from threading import Lock
from time import perf_counter
from typing import Any

from deployments.errors import failures_with, out_of_memory
from deployments.limits import Batching
from deployments.replica.batch_queue import BatchQueue, PendingCall, QueuedInput
from deployments.replica.batch_tuning import BatchCapacity, measure
from deployments.results import Answers
from deployments.task import Encoded, Module

MAX_ENCODED_BATCHES = 8  # that wait encoded: enough to choose from, and bounded in memory
TARGET_ENCODE_S = 0.02  # of one call of `encode`
MAX_ENCODED_TOGETHER = 512  # inputs of one call of `encode`
MEMORY_RETRY_S = 60.0  # until a larger pass is tried again: another process may have had the memory

Results = list[tuple[QueuedInput, Any]]  # each input with its result, or an exception


class Batcher:
    """Runs a module in batches made of concurrent `submit`s.

    `failures` counts inputs that failed alone with an unforeseen error since the last success.
    """

    def __init__(self, module: Module, limits: Batching) -> None:
        self.failures = 0
        self._module = module
        self._configured = limits
        self._capacity = self._measured = BatchCapacity.default(module)
        self._raise_ceiling_at = inf
        self._lock = Lock()  # for the following attributes, and the calls' results
        self._arrived: deque[QueuedInput] = deque()
        self._queue = BatchQueue()
        self._encoding = self._running = False
        self._encode_count = 8
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._forward = ThreadPoolExecutor(1, thread_name_prefix="forward")

    @property
    def limits(self) -> Batching:
        """The limits of one pass: set as configured, and read with what was measured for the others."""
        return self._capacity.fill(self._configured)

    @limits.setter
    def limits(self, configured: Batching) -> None:
        self._configured = configured

    def tune(self, examples: list[Any]) -> None:
        """Answer the examples, then find how much one pass should hold. Raises what the module raises."""
        self._capacity = self._measured = measure(self._module, self._configured, examples)

    async def submit(self, inputs: list[Any], params: Any, sizes: list[int] | None = None) -> Answers:
        """Return one output, or an exception, per input. Cancelling takes the inputs off the queue.

        `sizes` holds the number of inputs of each request; without it they are all one request's.
        """
        if not inputs:
            return Answers()
        done = asyncio.get_running_loop().create_future()
        call = PendingCall(params, sizes or [len(inputs)], perf_counter(), done)
        with self._lock:
            self._arrived.extend(QueuedInput(call, index, input) for index, input in enumerate(inputs))
            self._start_thread()
        try:
            await done
        except asyncio.CancelledError:
            call.cancelled = True
            raise
        return call.answers()

    def _start_thread(self) -> None:
        """Start a thread if there is work for it. Called with the lock held, after each change."""
        if not self._running and (self._queue.cost or (self._arrived and not self._encoding)):
            self._running = True
            self._forward.submit(self._run_all)
        elif self._arrived and not self._encoding and self._queue.cost < self._max_encoded_cost():
            self._encoding = True
            self._encoder.submit(self._encode_next)

    def _max_encoded_cost(self) -> int:
        return MAX_ENCODED_BATCHES * self._capacity.budget(self._configured)

    def _run_all(self) -> None:
        """Run batch after batch, until there is no work left for this thread."""
        results: Results = []
        while True:
            with self._lock:
                done = self._set_results(results)
                batch = self._queue.next(self._capacity.batch_budget(self._configured))
                alone = not batch and bool(self._arrived) and not self._encoding
                self._running, self._encoding = bool(batch) or alone, self._encoding or alone
                if not alone:
                    self._start_thread()
            _notify(
                done
            )  # not before: a caller that submits again at once must see whether this thread is idle
            if batch:
                results = self._run_batch(batch)
            elif alone:
                results = []
                self._encode_next()
            else:
                return

    def _run_batch(self, batch: list[QueuedInput]) -> Results:
        started_at = perf_counter()
        results = self._run_halving(self._outputs, batch)
        elapsed = perf_counter() - started_at
        for call in {item.call for item in batch}:
            call.queued_s = max(call.queued_s, started_at - call.arrived)
            call.computed_s += elapsed
            call.batches.append(len(batch))
        return [*zip(batch, results, strict=True)]

    def _outputs(self, items: list[QueuedInput]) -> list[Any]:
        try:
            outputs = list(self._module.run([item.input for item in items], items[0].call.params))
        except Exception as error:
            if out_of_memory(error):
                self._capacity = self._capacity.lowered(max(item.cost for item in items) * len(items))
                self._raise_ceiling_at = perf_counter() + MEMORY_RETRY_S
            raise
        if perf_counter() >= self._raise_ceiling_at:
            self._capacity = self._capacity.raised(self._measured, self._configured)
            as_measured = self._capacity == self._measured
            self._raise_ceiling_at = inf if as_measured else perf_counter() + MEMORY_RETRY_S
        return outputs

    def _encode_next(self) -> None:
        """Encode the oldest inputs that have arrived. `_encoding` is set: no other thread does."""
        with self._lock:
            new = [self._arrived.popleft() for _ in range(min(self._encode_count, len(self._arrived)))]
        by_key: dict[Any, list[QueuedInput]] = {}
        for item in new:
            if not item.call.cancelled:
                by_key.setdefault(item.call.batch_key, []).append(item)
        started_at = perf_counter()
        results = [
            (item, item.call.check_output_size(item.index, result))
            for items in by_key.values()
            for item, result in zip(items, self._run_halving(self._encoded, items), strict=True)
        ]
        elapsed = perf_counter() - started_at
        for call in {item.call for item in new}:
            call.encoded_s += elapsed
        self._encode_count = _next_encode_count(self._encode_count, elapsed)
        with self._lock:
            done = self._set_results([one for one in results if isinstance(one[1], Exception)])
            for item, result in results:
                if not isinstance(result, Exception):
                    item.input, item.call.costs[item.index] = result.input, result.cost
                    self._queue.add(item, max(result.cost, 1))
            self._encoding = False
            self._start_thread()
        _notify(done)

    def _encoded(self, items: list[QueuedInput]) -> list[Any]:
        encoded = self._module.encode([item.input for item in items], items[0].call.params)
        return [Encoded(*one) for one in encoded]

    def _run_halving(
        self, work: Callable[[list[QueuedInput]], list[Any]], items: list[QueuedInput]
    ) -> list[Any]:
        """Return `work`'s results, or exceptions. If it raises, run it on halves: a bad input fails alone."""
        try:
            results = work(items)
            if len(results) != len(items):
                raise RuntimeError(f"the module gave {len(results)} outputs for {len(items)} inputs")
            return results
        except BaseException as error:  # a panic in a tokenizer is no Exception
            if len(items) == 1:
                return [error if isinstance(error, Exception) else RuntimeError(repr(error))]
        # Outside the except block, the error's traceback no longer holds tensors.
        half = len(items) // 2
        return self._run_halving(work, items[:half]) + self._run_halving(work, items[half:])

    def _set_results(self, results: Results) -> list[PendingCall]:
        """Give results to their calls, with the lock held. Returns the calls that have all of theirs now."""
        for _, result in results:
            self.failures = failures_with(result, self.failures)
        return [item.call for item, result in results if item.call.set_result(item.index, result)]


def _notify(calls: list[PendingCall]) -> None:
    """Wake the tasks that wait for these calls, from any thread."""

    def set_done() -> None:
        for call in calls:
            if not call.done.done():
                call.done.set_result(None)

    if calls:
        with suppress(RuntimeError):  # the loop is closed: no task waits
            calls[0].done.get_loop().call_soon_threadsafe(set_done)


def _next_encode_count(count: int, seconds: float) -> int:
    """Return how many inputs to encode next time, after so many took so long."""
    if seconds > TARGET_ENCODE_S:
        return max(count // 2, 1)
    return min(count * 2, MAX_ENCODED_TOGETHER) if seconds < TARGET_ENCODE_S / 4 else count
