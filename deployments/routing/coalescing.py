"""What waits for one model goes to its replicas together, while they are busy with what came before."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from deployments.card import Card
from deployments.errors import InferenceError, Overloaded
from deployments.results import Answers
from deployments.schema import Schema

MAX_WAIT_S = 0.02  # for others to share a call with
WAIT_SHARE = 1 / 8  # of the time that calls take: longer is not noticed
LEAST_SHARE = 4  # calls of fewer inputs are not made of more that wait
MAX_MERGED = 64  # inputs
MAX_MERGED_SIZE = 1024 * 1024  # characters and bytes


@dataclass(eq=False)
class Waiting:
    """One caller's inputs that wait to be sent, and where their answers will be."""

    inputs: list[Schema]
    params: Schema
    answers: "asyncio.Future[Answers]"


class Merger:
    """Gathers the inputs for one model into calls.

    `call` takes requests' inputs to a replica together, told how many each has, and tells the answers;
    `queue` is told how many requests wait here because replicas hold as many as they may.

    While as many calls are under way as there are replicas, further inputs wait, for a short time or until
    there are fewer, and then go together: first come, first served, those of equal parameters, an even share
    to each replica. Batches are made there, of all that has come: nothing is held back from them, up to the
    `max_ongoing_requests` that each replica holds.
    """

    def __init__(
        self,
        call: Callable[[list[Schema], Schema, list[int]], Awaitable[Answers]],
        queue: Callable[[int], None],
        card: Callable[[], Card],
    ) -> None:
        self._call, self._tell_queued, self._card = call, queue, card
        self._calls = 0  # under way
        self._requests = 0  # in these calls
        self._took_s = 0.0  # the last of them
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[Waiting] = deque()
        self._sending: set[asyncio.Task[None] | None] = set()

    async def infer(self, inputs: list[Schema], params: Schema) -> Answers:
        """One output, or one `InferenceError`, per input. Raises `Overloaded`, and what the call raises."""
        if self._calls < self._card().replicas.running and not self._waiting:
            return await self._send_now(inputs, params)
        waiting = Waiting(inputs, params, asyncio.get_running_loop().create_future())
        self._queue(waiting)
        try:
            return await waiting.answers
        except asyncio.CancelledError:
            self._leave(waiting)
            raise

    def _queue(self, waiting: Waiting) -> None:
        refuse_if_full(self._card(), self._requests + len(self._waiting))
        self._waiting.append(waiting)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._patience(), self._send_waiting)

    def _leave(self, waiting: Waiting) -> None:
        waiting.answers.cancel()
        with contextlib.suppress(ValueError):  # it may have been sent
            self._waiting.remove(waiting)
            self._count_queued()

    def _patience(self) -> float:
        return min(self._took_s * WAIT_SHARE, MAX_WAIT_S)

    async def _send_now(self, inputs: list[Schema], params: Schema) -> Answers:
        done = self._under_way(1)
        try:
            answers: Answers = await self._call(inputs, params, [len(inputs)])
            return answers
        finally:
            done()

    def _under_way(self, requests: int) -> Callable[..., None]:
        """Count a call with so many requests, until what is returned is called."""
        began = time.perf_counter()

        def done(task: "asyncio.Task[None] | None" = None) -> None:
            self._took_s = time.perf_counter() - began
            self._calls -= 1
            self._requests -= requests
            self._sending.discard(task)
            if self._waiting and (self._calls < self._room()[0] or not self._timer):
                self._send_waiting()

        self._calls += 1
        self._requests += requests
        return done

    def _send_waiting(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        replicas, most = self._room()
        share = max(-(-len(self._waiting) // replicas), LEAST_SHARE)
        while batch := self._next(min(share, most - self._requests)):
            task = asyncio.get_running_loop().create_task(self._send(batch))
            self._sending.add(task)
            task.add_done_callback(self._under_way(len(batch)))
            leave = _last_cancels(len(batch), task)
            for one in batch:
                one.answers.add_done_callback(leave)
        self._count_queued()

    def _count_queued(self) -> None:
        full = self._requests >= self._room()[1]
        self._tell_queued(len(self._waiting) if full else 0)

    def _room(self) -> tuple[int, int]:
        """How many replicas there are, and how many requests they hold."""
        with contextlib.suppress(InferenceError):
            card = self._card()
            replicas = max(card.replicas.running, 1)
            return replicas, replicas * card.max_ongoing_requests
        return 1, 1

    def _next(self, share: int) -> list[Waiting]:
        """Those that go next: at most `share` of all that wait, beginning with the oldest."""
        batch: list[Waiting] = []
        others: list[Waiting] = []
        count = size = 0
        while self._waiting and len(batch) < share and len(others) < MAX_MERGED:
            one = self._waiting.popleft()
            if one.answers.done():
                continue
            many, large = count + len(one.inputs), size + sum(map(_size, one.inputs))
            if batch and (one.params != batch[0].params or many > MAX_MERGED or large > MAX_MERGED_SIZE):
                others.append(one)
            else:
                batch.append(one)
                count, size = many, large
        self._waiting.extendleft(reversed(others))
        return batch

    async def _send(self, batch: list[Waiting]) -> None:
        try:
            inputs = [input for one in batch for input in one.inputs]
            answers: Answers = await self._call(inputs, batch[0].params, [len(one.inputs) for one in batch])
            _hand_out(answers, batch)
        except Exception as error:
            for one in batch:
                if not one.answers.done():
                    one.answers.set_exception(error)


def refuse_if_full(card: Card, requests: int) -> None:
    """Raise `Overloaded` where a Router has as many requests as the replicas hold and may wait for them."""
    room = card.max_ongoing_requests * max(card.replicas.running, 1) + card.max_queued_requests
    if card.max_queued_requests >= 0 and requests >= room:
        raise Overloaded(f"model {card.id!r} has all the requests it can hold", retry_after=1.0)


def _hand_out(answers: Answers, batch: list[Waiting]) -> None:
    start = 0
    for one in batch:
        end = start + len(one.inputs)
        usage = replace(answers.usage, costs=answers.usage.costs[start:end])
        if not one.answers.done():
            one.answers.set_result(Answers(answers[start:end], usage))
        start = end


def _last_cancels(waiting: int, task: "asyncio.Task[None]") -> Callable[[Any], None]:
    """A callback for each of so many that wait: when the last has left, nobody is worked for any more."""

    def leave(_: Any) -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            task.cancel()

    return leave


def _size(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, Schema):
        return sum(_size(part) for _, part in value)
    return sum(map(_size, value)) if isinstance(value, (list, tuple)) else 1
