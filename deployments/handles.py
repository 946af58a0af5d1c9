"""A model's replicas as the Router reaches them: every call has a deadline, is tried again where a replica
dies, and shares its way with others while the replicas are busy. Ray's errors are unwrapped here alone."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.answers import Answers
from deployments.card import Card
from deployments.errors import ModelNotReady, TimedOut
from deployments.merging import Merger, overloaded
from deployments.schema import Schema

TRIES = 3
FAREWELL_S = 5.0  # what a call in flight is given when its model goes


class ModelHandle:
    """The way to one model's replicas.

    `card` tells how the model stands now; it raises `ModelNotFound` once there is no such model.
    """

    def __init__(self, model_id: str, card: Callable[[], Card], timeout_s: float) -> None:
        self.model_id = model_id
        self._card = card
        self._timeout_s = timeout_s
        self._handles: dict[str, DeploymentHandle] = {}
        self._deadlines: set[asyncio.Timeout] = set()
        self._merger = Merger(partial(self._tried, "infer"), card)

    async def call(self, method: str, *arguments: Any) -> Any:
        """What a replica's method returns. Raises an `InferenceError`."""
        async with self._deadline():
            return await self._tried(method, *arguments)

    async def infer(self, inputs: list[Schema], params: Schema) -> Answers:
        """One output, or one `InferenceError`, per input, in a call that others may share."""
        async with self._deadline():
            return await self._merger.infer(inputs, params)

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
            return overloaded(self.model_id, error.retry_after_s)
        if isinstance(error, DeploymentUnavailableError):
            return ModelNotReady(f"model {self.model_id!r} has no replica that can start")
        if isinstance(error, (RayServeException, ActorDiedError, ActorUnavailableError)):
            return ModelNotReady(f"model {self.model_id!r} cannot be reached: its replicas are restarting")
        return error


def unavailable(card: Card) -> ModelNotReady:
    """What is said of a model that cannot answer."""
    return ModelNotReady(f"model {card.id!r} is unavailable: {card.reason}")
