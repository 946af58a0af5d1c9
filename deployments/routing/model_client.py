"""A model's replicas as the Router reaches them: every call has a deadline, is tried again where a replica
dies, and shares its way with others while the replicas are busy. What Ray raises is turned into ours here."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from ray.exceptions import RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException

from deployments.card import Card
from deployments.errors import ModelNotReady, TimedOut
from deployments.results import Answers
from deployments.routing.coalescing import Merger, refuse_if_full
from deployments.routing.replica_set import ReplicaSet
from deployments.schema import Schema

TRIES = 3
FAREWELL_S = 5.0  # what a call in flight is given when its model goes

Result = TypeVar("Result")


class ModelHandle:
    """The way to one model's replicas.

    `card` tells how the model stands now; it raises `ModelNotFound` once there is no such model.
    """

    def __init__(self, model_id: str, card: Callable[[], Card], timeout_s: float) -> None:
        self.model_id = model_id
        self._card = card
        self._timeout_s = timeout_s
        self._replicas = ReplicaSet(model_id)
        self._deadlines: set[asyncio.Timeout] = set()
        self._merger = Merger(self._infer, self._replicas.queue, card)

    async def call(self, method: str, *arguments: Any) -> Any:
        """What a replica's method returns. Raises an `InferenceError`."""
        # Not merged, these do not wait in the merger's line, but count as well.
        refuse_if_full(self._card(), self._replicas.requests)
        return await self._bounded(self._tried(method, *arguments))

    async def infer(self, inputs: list[Schema], params: Schema) -> Answers:
        """One output, or one `InferenceError`, per input, in a call that others may share."""
        return await self._bounded(self._merger.infer(inputs, params))

    async def stream(self, input: Schema, params: Schema) -> AsyncGenerator[Any, None]:
        """The chunks of one answer. Closing it stops the work. The deadline holds from chunk to chunk."""
        refuse_if_full(self._card(), self._replicas.requests)
        async with aclosing(self._bunches(input, params)) as bunches:
            # One deadline a bunch: chunks may be asked for from different asyncio tasks.
            while (bunch := await self._bounded(anext(bunches, None))) is not None:
                for chunk in bunch:
                    yield chunk

    def hurry(self) -> None:
        """The model has gone: what is in flight gets five seconds."""
        soon = asyncio.get_running_loop().time() + FAREWELL_S
        for deadline in self._deadlines:
            if not deadline.expired() and (deadline.when() or soon) > soon:
                deadline.reschedule(soon)

    def close(self) -> None:
        """Nobody will ask for this model any more."""
        self._replicas.close()

    async def _infer(self, inputs: list[Schema], params: Schema, sizes: list[int]) -> Answers:
        counts = {"weight": len(inputs), "requests": len(sizes)}
        answers: Answers = await self._tried("infer", inputs, params, sizes, **counts)
        return answers

    async def _tried(self, method: str, *arguments: Any, **counts: int) -> Any:
        for _ in range(TRIES - 1):
            # A replica that dies takes the call with it. Inference changes nothing: another one may try.
            with contextlib.suppress(ConnectionError):
                return await self._replicas.call(method, *arguments, **counts)
        return await self._replicas.call(method, *arguments, **counts)

    async def _bunches(self, input: Schema, params: Schema) -> AsyncGenerator[Any, None]:
        """The chunks as they come, some together; tried again as `_tried`, until the first has come."""
        for left in reversed(range(TRIES)):
            started = False
            try:
                async with aclosing(self._replicas.stream("stream", input, params)) as bunches:
                    async for bunch in bunches:
                        started = True
                        yield bunch
                return
            except ConnectionError:
                if started or not left:
                    raise

    async def _bounded(self, call: Awaitable[Result]) -> Result:
        """Bounds a call in time, ends it early when the model goes, and turns Ray's errors into ours."""
        deadline = asyncio.timeout(self._timeout_s)
        try:
            async with deadline:
                self._deadlines.add(deadline)
                return await call
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
        if isinstance(error, DeploymentUnavailableError):
            return ModelNotReady(f"model {self.model_id!r} has no replica that can start")
        if isinstance(error, (RayServeException, ConnectionError)):
            return ModelNotReady(f"model {self.model_id!r} cannot be reached: its replicas are restarting")
        return error


def unavailable(card: Card) -> ModelNotReady:
    """What is said of a model that cannot answer."""
    return ModelNotReady(f"model {card.id!r} is unavailable: {card.reason}")
