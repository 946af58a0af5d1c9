"""Calls that several requests share: what waits for a busy model goes to its replicas together."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from deployments.card import Card
from deployments.errors import InferenceError, Overloaded
from deployments.results import InferenceResults
from deployments.schema import Schema

MAX_WAIT_S = 0.02  # for other requests to share a call with
WAIT_SHARE = 1 / 8  # of the duration of a call: a shorter wait is not noticeable
MIN_REQUESTS_PER_CALL = 4  # a shared call has at least as many, if so many wait
MAX_INPUTS = 64  # in a shared call
MAX_SIZE = 1024 * 1024  # of a shared call, in characters and bytes


@dataclass(eq=False)
class WaitingRequest:
    """The inputs of one request that waits to be sent, and the future of its results."""

    inputs: list[Schema]
    params: Schema
    results: "asyncio.Future[InferenceResults]"


class RequestCoalescer:
    """Gathers the requests for one model into calls.

    `call` sends the inputs of several requests to a replica, with the number of inputs that each request has,
    and returns their results. `report_queued` takes the number of requests that wait here because the
    replicas have as many as they may.

    While there are as many calls in flight as replicas, requests wait, for a short time or until a call ends,
    and then go together: first come, first served, those with equal parameters, an even share to each
    replica. The replicas make the batches, from all that they have: nothing waits here for a better batch,
    up to the `max_ongoing_requests` of each replica.
    """

    def __init__(
        self,
        call: Callable[[list[Schema], Schema, list[int]], Awaitable[InferenceResults]],
        report_queued: Callable[[int], None],
        card: Callable[[], Card],
    ) -> None:
        self._call, self._report_queued, self._card = call, report_queued, card
        self._calls_in_flight = 0
        self._requests_in_flight = 0
        self._last_elapsed_s = 0.0  # of the last call that ended
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[WaitingRequest] = deque()
        self._sending: set[asyncio.Task[None] | None] = set()

    async def infer(self, inputs: list[Schema], params: Schema) -> InferenceResults:
        """Return one output, or one `InferenceError`, per input. Raises `Overloaded`, or as the call."""
        if self._calls_in_flight < self._card().replicas.running and not self._waiting:
            return await self._send_now(inputs, params)
        request = WaitingRequest(inputs, params, asyncio.get_running_loop().create_future())
        self._enqueue(request)
        try:
            return await request.results
        except asyncio.CancelledError:
            self._remove(request)
            raise

    def _enqueue(self, request: WaitingRequest) -> None:
        refuse_if_full(self._card(), self._requests_in_flight + len(self._waiting))
        self._waiting.append(request)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._max_wait(), self._send_waiting)

    def _remove(self, request: WaitingRequest) -> None:
        request.results.cancel()
        with contextlib.suppress(ValueError):  # it may have been sent
            self._waiting.remove(request)
            self._report_waiting()

    def _max_wait(self) -> float:
        return min(self._last_elapsed_s * WAIT_SHARE, MAX_WAIT_S)

    async def _send_now(self, inputs: list[Schema], params: Schema) -> InferenceResults:
        done = self._count_call(1)
        try:
            results: InferenceResults = await self._call(inputs, params, [len(inputs)])
            return results
        finally:
            done()

    def _count_call(self, requests: int) -> Callable[..., None]:
        """Count a call with so many requests. Returns the function that ends it."""
        started_at = time.perf_counter()

        def done(task: "asyncio.Task[None] | None" = None) -> None:
            self._last_elapsed_s = time.perf_counter() - started_at
            self._calls_in_flight -= 1
            self._requests_in_flight -= requests
            self._sending.discard(task)
            if self._waiting and (self._calls_in_flight < self._capacity()[0] or not self._timer):
                self._send_waiting()

        self._calls_in_flight += 1
        self._requests_in_flight += requests
        return done

    def _send_waiting(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        replicas, max_requests = self._capacity()
        share = max(-(-len(self._waiting) // replicas), MIN_REQUESTS_PER_CALL)
        while batch := self._next(min(share, max_requests - self._requests_in_flight)):
            task = asyncio.get_running_loop().create_task(self._send(batch))
            self._sending.add(task)
            task.add_done_callback(self._count_call(len(batch)))
            cancel = cancel_when_all_cancelled(len(batch), task)
            for request in batch:
                request.results.add_done_callback(cancel)
        self._report_waiting()

    def _report_waiting(self) -> None:
        full = self._requests_in_flight >= self._capacity()[1]
        self._report_queued(len(self._waiting) if full else 0)

    def _capacity(self) -> tuple[int, int]:
        """Return the number of replicas, and of requests that they process at a time."""
        with contextlib.suppress(InferenceError):
            card = self._card()
            replicas = max(card.replicas.running, 1)
            return replicas, replicas * card.max_ongoing_requests
        return 1, 1

    def _next(self, share: int) -> list[WaitingRequest]:
        """Take the requests of the next call: at most `share` of all that wait, from the oldest on."""
        batch: list[WaitingRequest] = []
        others: list[WaitingRequest] = []
        count = size = 0
        while self._waiting and len(batch) < share and len(others) < MAX_INPUTS:
            request = self._waiting.popleft()
            if request.results.done():
                continue
            new_count, new_size = count + len(request.inputs), size + sum(map(_size, request.inputs))
            too_large = new_count > MAX_INPUTS or new_size > MAX_SIZE
            if batch and (request.params != batch[0].params or too_large):
                others.append(request)
            else:
                batch.append(request)
                count, size = new_count, new_size
        self._waiting.extendleft(reversed(others))
        return batch

    async def _send(self, batch: list[WaitingRequest]) -> None:
        try:
            inputs = [input for request in batch for input in request.inputs]
            sizes = [len(request.inputs) for request in batch]
            split_results(await self._call(inputs, batch[0].params, sizes), batch)
        except Exception as error:
            for request in batch:
                if not request.results.done():
                    request.results.set_exception(error)


def refuse_if_full(card: Card, requests: int) -> None:
    """Raise `Overloaded` where a Router has as many requests as the replicas hold and may wait for them."""
    room = card.max_ongoing_requests * max(card.replicas.running, 1) + card.max_queued_requests
    if card.max_queued_requests >= 0 and requests >= room:
        raise Overloaded(f"model {card.id!r} has all the requests it can hold", retry_after=1.0)


def split_results(results: InferenceResults, batch: list[WaitingRequest]) -> None:
    """Give each request of a shared call its part of the results."""
    start = 0
    for request in batch:
        end = start + len(request.inputs)
        own = {name: getattr(results.usage, name)[start:end] for name in ("costs", "truncated")}
        usage = replace(results.usage, **own)
        if not request.results.done():
            request.results.set_result(InferenceResults(results[start:end], usage))
        start = end


def cancel_when_all_cancelled(waiting: int, task: "asyncio.Task[None]") -> Callable[[Any], None]:
    """Return a done-callback that cancels `task` once all of so many `waiting` futures have ended."""

    def done(_: Any) -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            task.cancel()

    return done


def _size(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, Schema):
        return sum(_size(part) for _, part in value)
    return sum(map(_size, value)) if isinstance(value, (list, tuple)) else 1
