"""The replica's batching scheduler: inputs that wait together run together; no input waits for others.

The encode thread encodes arriving inputs. The forward thread runs the network and chooses each batch at the
moment when it is free, oldest input first. If the model is idle and nothing waits, it also encodes.
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

from deployments.errors import count_failures, out_of_memory
from deployments.limits import Batching
from deployments.replica.batch_queue import BatchQueue, PendingRequest, QueuedInput
from deployments.replica.batch_tuning import BatchCapacity, measure
from deployments.results import InferenceResults
from deployments.task import Encoded, Module

MAX_ENCODED_BATCHES = (
    8  # encoded inputs that may wait, in full batches: enough to choose from, bounded in memory
)
TARGET_ENCODE_S = 0.02  # of one call of `encode`
MAX_ENCODE_BATCH = 512
MEMORY_RETRY_S = 60.0  # before a larger pass is tried again: another process may have held the memory

Outcomes = list[tuple[QueuedInput, Any]]  # each input with its result or exception


class Batcher:
    """Runs a module on batches of the inputs of concurrent `submit` calls.

    `failures` counts inputs that failed alone with an unexpected error since the last success.
    """

    def __init__(self, module: Module, limits: Batching) -> None:
        self.failures = 0
        self._module = module
        self._configured = limits
        self._capacity = self._measured = BatchCapacity.unmeasured(module)
        self._larger_at = inf
        self._lock = Lock()  # guards the following attributes and the results of requests
        self._arrived: deque[QueuedInput] = deque()
        self._queue = BatchQueue()
        self._encoding = self._running = False
        self._encode_batch_size = 8
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._forward = ThreadPoolExecutor(1, thread_name_prefix="forward")

    @property
    def limits(self) -> Batching:
        """The limits of one pass: the configured ones, completed by measured ones when read."""
        return self._capacity.fill(self._configured)

    @limits.setter
    def limits(self, configured: Batching) -> None:
        self._configured = configured

    def tune(self, examples: list[Any]) -> None:
        """Run the examples, then measure how much one pass should hold. Raises what the module raises."""
        self._capacity = self._measured = measure(self._module, self._configured, examples)

    async def submit(
        self, inputs: list[Any], params: Any, sizes: list[int] | None = None
    ) -> InferenceResults:
        """Return one output or exception per input. Cancelling removes the inputs from the queue.

        `sizes` holds the number of inputs per client request; by default all inputs belong to one request.
        """
        if not inputs:
            return InferenceResults()
        done = asyncio.get_running_loop().create_future()
        request = PendingRequest(params, sizes or [len(inputs)], perf_counter(), done)
        with self._lock:
            self._arrived.extend(QueuedInput(request, index, input) for index, input in enumerate(inputs))
            self._wake()
        try:
            await done
        finally:
            request.cancelled = True
        return request.inference_results()

    def _wake(self) -> None:
        """Start a thread for waiting inputs. Call it with the lock held, after every change."""
        if not self._running and (self._queue.cost or (self._arrived and not self._encoding)):
            self._running = True
            self._forward.submit(self._run_all)
        elif self._arrived and not self._encoding and self._queue.cost < self._max_encoded_cost():
            self._encoding = True
            self._encoder.submit(self._encode_arrived)

    def _max_encoded_cost(self) -> int:
        return MAX_ENCODED_BATCHES * self._capacity.budget(self._configured)

    def _run_all(self) -> None:
        """Run batches until no work is left for this thread."""
        outcomes: Outcomes = []
        while True:
            with self._lock:
                finished = self._settle(outcomes)
                batch = self._queue.next(self._capacity.batch_budget(self._configured))
                encode_here = not batch and bool(self._arrived) and not self._encoding
                self._running = bool(batch) or encode_here
                self._encoding = self._encoding or encode_here
                if not encode_here:
                    self._wake()
            _resolve(finished)  # last, so that a client that sends its next request at once finds this state
            if batch:
                outcomes = self._run_batch(batch)
            elif encode_here:
                outcomes = []
                self._encode_arrived()
            else:
                return

    def _run_batch(self, batch: list[QueuedInput]) -> Outcomes:
        started = perf_counter()
        results = self._isolate_failures(self._outputs, batch)
        elapsed = perf_counter() - started
        for request in {item.request for item in batch}:
            request.queued_s = max(request.queued_s, started - request.arrived_at)
            request.inference_s += elapsed
            request.batches.append(len(batch))
        return [*zip(batch, results, strict=True)]

    def _outputs(self, items: list[QueuedInput]) -> list[Any]:
        try:
            outputs = list(self._module.run([item.input for item in items], items[0].request.params))
        except Exception as error:
            if out_of_memory(error):
                self._capacity = self._capacity.after_failure(max(item.cost for item in items) * len(items))
                self._larger_at = perf_counter() + MEMORY_RETRY_S
            raise
        if perf_counter() >= self._larger_at:
            self._capacity = self._capacity.recovered(self._measured, self._configured)
            self._larger_at = inf if self._capacity == self._measured else perf_counter() + MEMORY_RETRY_S
        return outputs

    def _encode_arrived(self) -> None:
        """Encode the oldest arrived inputs. The caller has set `_encoding`, which excludes other threads."""
        with self._lock:
            arrived = [
                self._arrived.popleft() for _ in range(min(self._encode_batch_size, len(self._arrived)))
            ]
        groups: dict[Any, list[QueuedInput]] = {}
        for item in arrived:
            if not item.request.cancelled:
                groups.setdefault(item.request.batch_key, []).append(item)
        started = perf_counter()
        outcomes = [
            (item, item.request.check_output_size(item.index, result))
            for items in groups.values()
            for item, result in zip(items, self._isolate_failures(self._encoded, items), strict=True)
        ]
        elapsed = perf_counter() - started
        for request in {item.request for item in arrived}:
            request.encoded_s += elapsed
        self._encode_batch_size = _next_encode_batch_size(self._encode_batch_size, elapsed)
        with self._lock:
            failures = [(item, result) for item, result in outcomes if isinstance(result, Exception)]
            finished = self._settle(failures)
            for item, result in outcomes:
                if not isinstance(result, Exception):
                    item.input, item.request.costs[item.index] = result.input, result.cost
                    item.request.truncated[item.index] = result.truncated
                    self._queue.add(item, max(result.cost, 1))
            self._encoding = False
            self._wake()
        _resolve(finished)

    def _encoded(self, items: list[QueuedInput]) -> list[Any]:
        encoded = self._module.encode([item.input for item in items], items[0].request.params)
        return [Encoded(*values) for values in encoded]

    def _isolate_failures(
        self, work: Callable[[list[QueuedInput]], list[Any]], items: list[QueuedInput]
    ) -> list[Any]:
        """Return `work`'s results or exceptions. If it raises, retry in halves: a bad input fails alone."""
        try:
            results = work(items)
            if len(results) != len(items):
                raise RuntimeError(f"the module returned {len(results)} outputs for {len(items)} inputs")
            return results
        except BaseException as error:  # a Rust panic in a tokenizer is not an Exception
            if len(items) == 1:
                return [error if isinstance(error, Exception) else RuntimeError(repr(error))]
        # Outside the handler the traceback no longer holds the tensors of the failed pass.
        half = len(items) // 2
        return self._isolate_failures(work, items[:half]) + self._isolate_failures(work, items[half:])

    def _settle(self, outcomes: Outcomes) -> list[PendingRequest]:
        """Store results in their requests, with the lock held. Return the requests that are now complete."""
        for _, result in outcomes:
            self.failures = count_failures(result, self.failures)
        return [item.request for item, result in outcomes if item.request.settle(item.index, result)]


def _resolve(requests: list[PendingRequest]) -> None:
    """Wake the coroutines that wait for these requests, from any thread."""

    def wake() -> None:
        for request in requests:
            if not request.done.done():
                request.done.set_result(None)

    if requests:
        with suppress(RuntimeError):  # the event loop has closed
            requests[0].done.get_loop().call_soon_threadsafe(wake)


def _next_encode_batch_size(size: int, seconds: float) -> int:
    """Return how many inputs to encode next, after a batch of `size` took this long."""
    if seconds > TARGET_ENCODE_S:
        return max(size // 2, 1)
    return min(size * 2, MAX_ENCODE_BATCH) if seconds < TARGET_ENCODE_S / 4 else size
