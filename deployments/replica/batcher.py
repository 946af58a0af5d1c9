"""The replica's scheduler: what waits together runs together; nothing waits for company.

Two threads: one encodes what arrives, the other runs the network, on batches that it chooses at the moment it
is free, with the oldest input first. Where the model is idle and nothing waits, the second does both.
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
from deployments.replica.batch_queue import Backlog, Call, Item
from deployments.replica.batch_tuning import Capacity, measure
from deployments.results import InferenceResults
from deployments.task import Encoded, Module

AHEAD = 8  # so many batches' worth may wait encoded: enough to choose among, and bounded in memory
BUNCH_S = 0.02  # about as long as one call of `encode` may take
MOST_IN_BUNCH = 512
SHORT_OF_MEMORY_S = 60.0  # until a larger pass is tried again: others may have had it

Told = list[tuple[Item, Any]]  # results, or exceptions, with what they are for


class Batcher:
    """Runs a module in batches made of concurrent `submit`s.

    `failures` counts inputs that failed alone with an unforeseen error since the last success.
    """

    def __init__(self, module: Module, limits: Batching) -> None:
        self.failures = 0
        self._module = module
        self._configured = limits
        self._capacity = self._measured = Capacity.untried(module)
        self._larger_at = inf
        self._lock = Lock()  # for what follows, and the calls' results
        self._arrived: deque[Item] = deque()
        self._backlog = Backlog()
        self._encoding = self._running = False
        self._bunch = 8
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._forward = ThreadPoolExecutor(1, thread_name_prefix="forward")

    @property
    def limits(self) -> Batching:
        """What one pass may hold. Set it to what is configured; read, it holds what was measured as well."""
        return self._capacity.fill(self._configured)

    @limits.setter
    def limits(self, configured: Batching) -> None:
        self._configured = configured

    def tune(self, examples: list[Any]) -> None:
        """Answer the examples, then find how much one pass should hold. Raises what the module raises."""
        self._capacity = self._measured = measure(self._module, self._configured, examples)

    async def submit(
        self, inputs: list[Any], params: Any, sizes: list[int] | None = None
    ) -> InferenceResults:
        """One output, or the exception it failed with, per input. Cancelling takes them off the queue.

        `sizes` tells how many inputs each request has; they are all one's, if not given.
        """
        if not inputs:
            return InferenceResults()
        answered = asyncio.get_running_loop().create_future()
        call = Call(params, sizes or [len(inputs)], perf_counter(), answered)
        with self._lock:
            self._arrived.extend(Item(call, place, input) for place, input in enumerate(inputs))
            self._wake()
        try:
            await answered
        finally:
            call.gone = True
        return call.answers()

    def _wake(self) -> None:
        """Set a thread to work on what waits; call it with the lock held, whenever something has changed."""
        if not self._running and (self._backlog.cost or (self._arrived and not self._encoding)):
            self._running = True
            self._forward.submit(self._run_all)
        elif self._arrived and not self._encoding and self._backlog.cost < self._ahead():
            self._encoding = True
            self._encoder.submit(self._encode_bunch)

    def _ahead(self) -> int:
        return AHEAD * self._capacity.budget(self._configured)

    def _run_all(self) -> None:
        """Run batch after batch, until nothing is left that this thread could do."""
        told: Told = []
        while True:
            with self._lock:
                done = self._settle(told)
                batch = self._backlog.next(self._capacity.room(self._configured))
                alone = not batch and bool(self._arrived) and not self._encoding
                self._running, self._encoding = bool(batch) or alone, self._encoding or alone
                if not alone:
                    self._wake()
            _answer(done)  # only now: whoever asks again at once finds this thread as idle as it will be
            if batch:
                told = self._run_batch(batch)
            elif alone:
                told = []
                self._encode_bunch()
            else:
                return

    def _run_batch(self, batch: list[Item]) -> Told:
        started = perf_counter()
        results = self._each(self._outputs, batch)
        took = perf_counter() - started
        for call in {item.call for item in batch}:
            call.queued_s = max(call.queued_s, started - call.arrived)
            call.inference_s += took
            call.batches.append(len(batch))
        return [*zip(batch, results, strict=True)]

    def _outputs(self, items: list[Item]) -> list[Any]:
        try:
            outputs = list(self._module.run([item.input for item in items], items[0].call.params))
        except Exception as error:
            if out_of_memory(error):
                self._capacity = self._capacity.lowered(max(item.cost for item in items) * len(items))
                self._larger_at = perf_counter() + SHORT_OF_MEMORY_S
            raise
        if perf_counter() >= self._larger_at:
            self._capacity = self._capacity.raised(self._measured, self._configured)
            self._larger_at = inf if self._capacity == self._measured else perf_counter() + SHORT_OF_MEMORY_S
        return outputs

    def _encode_bunch(self) -> None:
        """Encode the oldest of what has arrived; `_encoding` is set, so nobody else does."""
        with self._lock:
            fresh = [self._arrived.popleft() for _ in range(min(self._bunch, len(self._arrived)))]
        alike: dict[Any, list[Item]] = {}
        for item in fresh:
            if not item.call.gone:
                alike.setdefault(item.call.alike, []).append(item)
        started = perf_counter()
        told = [
            (item, item.call.admitted(item.place, result))
            for items in alike.values()
            for item, result in zip(items, self._each(self._encoded, items), strict=True)
        ]
        took = perf_counter() - started
        for call in {item.call for item in fresh}:
            call.encoded_s += took
        self._bunch = _paced(self._bunch, took)
        with self._lock:
            done = self._settle([(item, result) for item, result in told if isinstance(result, Exception)])
            for item, result in told:
                if not isinstance(result, Exception):
                    item.input, item.call.costs[item.place] = result.input, result.cost
                    self._backlog.add(item, max(result.cost, 1))
            self._encoding = False
            self._wake()
        _answer(done)

    def _encoded(self, items: list[Item]) -> list[Any]:
        encoded = self._module.encode([item.input for item in items], items[0].call.params)
        return [Encoded(*one) for one in encoded]

    def _each(self, work: Callable[[list[Item]], list[Any]], items: list[Item]) -> list[Any]:
        """`work`'s results, or exceptions. Where it raises, it is halved, so that a bad item fails alone."""
        try:
            results = work(items)
            if len(results) != len(items):
                raise RuntimeError(f"the module gave {len(results)} outputs for {len(items)} inputs")
            return results
        except BaseException as error:  # a panic in a tokenizer is no Exception
            if len(items) == 1:
                return [error if isinstance(error, Exception) else RuntimeError(repr(error))]
        # Out here the error is gone, and with it the tensors that its traceback held.
        half = len(items) // 2
        return self._each(work, items[:half]) + self._each(work, items[half:])

    def _settle(self, told: Told) -> list[Call]:
        """Give results to their calls, with the lock held; returns the calls that have all of theirs now."""
        for _, result in told:
            self.failures = count_failures(result, self.failures)
        return [item.call for item, result in told if item.call.settle(item.place, result)]


def _answer(calls: list[Call]) -> None:
    """Wake those who wait for these calls, from any thread."""

    def wake() -> None:
        for call in calls:
            if not call.answered.done():
                call.answered.set_result(None)

    if calls:
        with suppress(RuntimeError):  # the loop has closed: nobody waits
            calls[0].answered.get_loop().call_soon_threadsafe(wake)


def _paced(bunch: int, seconds: float) -> int:
    """How many to encode at once next time."""
    if seconds > BUNCH_S:
        return max(bunch // 2, 1)
    return min(bunch * 2, MOST_IN_BUNCH) if seconds < BUNCH_S / 4 else bunch
