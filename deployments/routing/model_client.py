"""The Router's client for one model: deadlines, retries where a replica dies, shared calls, Ray's errors."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from ray.serve.exceptions import DeploymentUnavailableError, RayServeException

from deployments.card import Card
from deployments.errors import ModelNotReady, TimedOut
from deployments.results import InferenceResults
from deployments.routing.coalescing import RequestCoalescer, refuse_if_full
from deployments.routing.replica_transport import ReplicaTransport
from deployments.schema import Schema

MAX_ATTEMPTS = 3
REMOVED_MODEL_GRACE_S = 5.0  # for calls in flight, when their model is removed

Result = TypeVar("Result")


class ModelClient:
    """Calls one model's replicas.

    `card` returns the model's current state; it raises `ModelNotFound` once the model is gone.
    """

    def __init__(
        self, model_id: str, card: Callable[[], Card], timeout_s: float, replicas: ReplicaTransport
    ) -> None:
        self.model_id = model_id
        self._card = card
        self._timeout_s = timeout_s
        self._replicas = replicas
        self._deadlines: set[asyncio.Timeout] = set()
        self._coalescer = RequestCoalescer(self._infer, replicas.report_queued, card)

    async def call(self, method: str, *arguments: Any) -> Any:
        """Return what a replica's method returns. Raises an `InferenceError`."""
        # These calls do not wait in the coalescer, but count as well.
        refuse_if_full(self._card(), self._replicas.requests)
        return await self._bounded(self._with_retries(method, *arguments))

    async def infer(self, inputs: list[Schema], params: Schema) -> InferenceResults:
        """Return one output, or one `InferenceError`, per input, from a call that others may share."""
        return await self._bounded(self._coalescer.infer(inputs, params))

    async def stream(self, input: Schema, params: Schema) -> AsyncGenerator[Any, None]:
        """Yield the chunks of one answer. Closing stops the work. The deadline holds from chunk to chunk."""
        refuse_if_full(self._card(), self._replicas.requests)
        async with aclosing(self._chunk_lists(input, params)) as chunk_lists:
            # One deadline for each list: the caller may iterate in several asyncio tasks.
            while (chunks := await self._bounded(anext(chunk_lists, None))) is not None:
                for chunk in chunks:
                    yield chunk

    def shorten_deadlines(self) -> None:
        """Give the calls in flight five more seconds: the model is gone."""
        soon = asyncio.get_running_loop().time() + REMOVED_MODEL_GRACE_S
        for deadline in self._deadlines:
            if not deadline.expired() and (deadline.when() or soon) > soon:
                deadline.reschedule(soon)

    def serves(self, module_id: str | None) -> bool:
        """Return whether a replica of this module runs."""
        return module_id in self._replicas.modules()

    def close(self) -> None:
        """Disconnect from the replicas once the last call has ended."""
        self._replicas.close()

    async def _infer(self, inputs: list[Schema], params: Schema, sizes: list[int]) -> InferenceResults:
        counts = {"num_inputs": len(inputs), "requests": len(sizes)}
        results: InferenceResults = await self._with_retries("infer", inputs, params, sizes, **counts)
        return results

    async def _with_retries(self, method: str, *arguments: Any, **counts: int) -> Any:
        self._replicas.module_id = self._card().module_id
        for _ in range(MAX_ATTEMPTS - 1):
            # A replica that dies fails its calls. Inference has no side effects: another one may try.
            with contextlib.suppress(ConnectionError):
                return await self._replicas.call(method, *arguments, **counts)
        return await self._replicas.call(method, *arguments, **counts)

    async def _chunk_lists(self, input: Schema, params: Schema) -> AsyncGenerator[Any, None]:
        """Yield chunks in the lists in which they come; retry as `_with_retries` until the first comes."""
        self._replicas.module_id = self._card().module_id
        for attempts_left in reversed(range(MAX_ATTEMPTS)):
            started = False
            try:
                async with aclosing(self._replicas.stream("stream", input, params)) as chunk_lists:
                    async for chunks in chunk_lists:
                        started = True
                        yield chunks
                return
            except ConnectionError:
                if started or not attempts_left:
                    raise

    async def _bounded(self, call: Awaitable[Result]) -> Result:
        """Bound a call in time, end it early when the model is removed, and translate Ray's errors."""
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
            raise self._translated(error) from error
        finally:
            self._deadlines.discard(deadline)

    def _translated(self, error: Exception) -> Exception:
        if isinstance(error, DeploymentUnavailableError):
            return ModelNotReady(f"model {self.model_id!r} has no replica that can start")
        if isinstance(error, (RayServeException, ConnectionError)):
            return ModelNotReady(f"model {self.model_id!r} cannot be reached: its replicas are restarting")
        return error


def unavailable(card: Card) -> ModelNotReady:
    """Return the error for a model that cannot serve requests."""
    return ModelNotReady(f"model {card.id!r} is unavailable: {card.reason}")
