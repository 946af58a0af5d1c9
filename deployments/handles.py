"""A model's replicas as the Router reaches them: every call has a deadline, is tried again where a replica
dies, and shares its way with others while the replicas are busy. Ray's errors are unwrapped here alone."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.answers import Answers
from deployments.card import Card
from deployments.errors import InferenceError, ModelNotReady, Overloaded, TimedOut
from deployments.schema import Schema

TRIES = 3
FAREWELL_S = 5.0  # what a call in flight is given when its model goes
MAX_WAIT_S = 0.01  # for others to share a call with
WAIT_SHARE = 1 / 8  # of the time that calls take: longer is not noticed
LEAST_SHARE = 4  # calls of fewer inputs are not made of more that wait
MAX_MERGED = 64  # inputs
MAX_MERGED_SIZE = 1024 * 1024  # characters and bytes


@dataclass
class Waiting:
    """One caller's inputs that wait to be sent, and where their answers will be."""

    inputs: list[Schema]
    params: Schema
    answers: "asyncio.Future[Answers]"


class ModelHandle:
    """The way to one model's replicas.

    `card` tells how the model stands now; it raises `ModelNotFound` once there is no such model. While as
    many calls are under way as there are replicas, further inputs wait, until a call returns or for a short
    time, and then go together: first come, first served, those of equal parameters, an even share to each
    replica. Batches are made there, of all that has come: nothing is held back from them, up to the
    `max_ongoing_requests` that each replica holds.
    """

    def __init__(self, model_id: str, card: Callable[[], Card], timeout_s: float) -> None:
        self.model_id = model_id
        self._card = card
        self._timeout_s = timeout_s
        self._handles: dict[str, DeploymentHandle] = {}
        self._deadlines: set[asyncio.Timeout] = set()
        self._calls = 0  # of `infer`, under way
        self._requests = 0  # in these calls
        self._took_s = 0.0  # the last of them
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[Waiting] = deque()
        self._sending: set[asyncio.Task[None] | None] = set()

    async def call(self, method: str, *arguments: Any) -> Any:
        """What a replica's method returns. Raises an `InferenceError`."""
        async with self._deadline():
            return await self._tried(method, *arguments)

    async def infer(self, inputs: list[Schema], params: Schema) -> Answers:
        """One output, or one `InferenceError`, per input, in a call that others may share."""
        async with self._deadline():
            if self._calls < self._card().replicas.running and not self._waiting:
                return await self._send_now(inputs, params)
            waiting = Waiting(inputs, params, asyncio.get_running_loop().create_future())
            self._queue(waiting)
            try:
                return await waiting.answers
            finally:
                waiting.answers.cancel()

    async def stream(self, input: Schema, params: Schema) -> AsyncGenerator[Any, None]:
        """The chunks of one answer. Closing it stops the work. The deadline holds from chunk to chunk."""
        handle = await self._reach("stream")
        bunches = handle.remote(input, params)
        started, tries = False, TRIES
        try:
            while True:
                # One deadline a chunk: chunks may be asked for from different asyncio tasks.
                async with self._deadline():
                    try:
                        bunch = await anext(bunches)
                    except StopAsyncIteration:
                        return
                    except (ActorDiedError, ActorUnavailableError):
                        tries -= 1
                        if started or not tries:
                            raise
                        bunches = handle.remote(input, params)
                        continue
                started = True
                for chunk in bunch:
                    yield chunk
        finally:
            bunches.cancel()

    def hurry(self) -> None:
        """The model has gone: what is in flight gets five seconds."""
        soon = asyncio.get_running_loop().time() + FAREWELL_S
        for deadline in self._deadlines:
            if not deadline.expired() and (deadline.when() or soon) > soon:
                deadline.reschedule(soon)

    async def _tried(self, method: str, *arguments: Any) -> Any:
        for _ in range(TRIES - 1):
            # A replica that dies takes the call with it. Inference changes nothing: another one may try.
            with contextlib.suppress(ActorDiedError, ActorUnavailableError):
                return await self._try(method, *arguments)
        return await self._try(method, *arguments)

    async def _try(self, method: str, *arguments: Any) -> Any:
        response = (await self._reach(method)).remote(*arguments)
        try:
            return await response
        except asyncio.CancelledError:
            # Of the caller, or of the deadline: what nobody waits for is not worked for.
            response.cancel()
            raise

    async def _reach(self, method: str) -> DeploymentHandle:
        """The handle of one of the replicas' methods, kept: to make one takes longer than to call it."""
        if method not in self._handles:
            try:
                handle = await asyncio.to_thread(serve.get_app_handle, self.model_id)
            except RayServeException:
                raise ModelNotReady(f"model {self.model_id!r} is loading") from None
            self._handles[method] = handle.options(
                method_name=method,
                stream=method == "stream",
                # Both sides know the classes by their names: cloudpickle has nothing to add but time.
                request_serialization="pickle",
                response_serialization="pickle",
            )
        return self._handles[method]

    def _queue(self, waiting: Waiting) -> None:
        limit = self._card().max_queued_requests
        if 0 <= limit <= len(self._waiting):
            raise self._overloaded(1.0)
        self._waiting.append(waiting)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._patience(), self._send_waiting)

    def _patience(self) -> float:
        return min(self._took_s * WAIT_SHARE, MAX_WAIT_S)

    async def _send_now(self, inputs: list[Schema], params: Schema) -> Answers:
        done = self._under_way(1)
        try:
            answers: Answers = await self._tried("infer", inputs, params)
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
            for one in batch:
                one.answers.add_done_callback(partial(_leave, batch, task))

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
            answers: Answers = await self._tried("infer", inputs, batch[0].params)
            _hand_out(answers, batch)
        except Exception as error:
            for one in batch:
                if not one.answers.done():
                    one.answers.set_exception(error)

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """Bounds a call in time, ends it early when the model goes, and turns Ray's errors into ours."""
        try:
            async with asyncio.timeout(self._timeout_s) as deadline:
                self._deadlines.add(deadline)
                yield
        except TimeoutError:
            card = self._card()
            if card.state == "unavailable":
                raise unavailable(card) from None
            if card.state == "loading":
                raise ModelNotReady(f"model {self.model_id!r} is loading") from None
            raise TimedOut(f"no answer within {self._timeout_s:g} seconds") from None
        except Exception as error:
            raise self._ours(error) from error
        finally:
            self._deadlines.discard(deadline)

    def _ours(self, error: Exception) -> Exception:
        if isinstance(error, RayTaskError):
            error = error.cause
        if isinstance(error, BackPressureError):
            return self._overloaded(error.retry_after_s)
        if isinstance(error, DeploymentUnavailableError):
            return ModelNotReady(f"model {self.model_id!r} has no replica that can start")
        if isinstance(error, (RayServeException, ActorDiedError, ActorUnavailableError)):
            return ModelNotReady(f"model {self.model_id!r} cannot be reached: its replicas are restarting")
        return error

    def _overloaded(self, retry_after: float | None) -> Overloaded:
        return Overloaded(
            f"model {self.model_id!r} has all the requests it can hold", retry_after=retry_after
        )


def unavailable(card: Card) -> ModelNotReady:
    """What is said of a model that cannot answer."""
    return ModelNotReady(f"model {card.id!r} is unavailable: {card.reason}")


def _hand_out(answers: Answers, batch: list[Waiting]) -> None:
    start = 0
    for one in batch:
        end = start + len(one.inputs)
        usage = replace(answers.usage, costs=answers.usage.costs[start:end])
        if not one.answers.done():
            one.answers.set_result(Answers(answers[start:end], usage))
        start = end


def _leave(batch: list[Waiting], task: "asyncio.Task[None]", _: Any) -> None:
    """What nobody waits for any more is not worked for."""
    if all(one.answers.done() for one in batch):
        task.cancel()


def _size(value: Any) -> int:
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, Schema):
        return sum(_size(part) for _, part in value)
    return sum(map(_size, value)) if isinstance(value, (list, tuple)) else 1
