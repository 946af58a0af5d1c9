"""Calls of a model's replicas through Serve's public handle: slower than a connection, but public."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from contextvars import Context
from typing import Any

from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.errors import InferenceError, Internal, ModelNotReady, Overloaded
from deployments.routing.replica_transport import ReplicaTransport

log = logging.getLogger("ray.serve")

END = object()


class ServeHandle(ReplicaTransport):
    """Serve chooses the replica, queues the call, and counts it for autoscaling.

    It counts calls: one that several requests share is one. `handle` is None before the first call.
    """

    def __init__(self, model_id: str) -> None:
        super().__init__(model_id)
        self.handle: DeploymentHandle | None = None
        self._finding = asyncio.Lock()

    async def call(self, method: str, *arguments: Any, num_inputs: int = 1, requests: int = 1) -> Any:
        with self._counted(requests):
            response = await self._send(method, arguments, stream=False)
            try:
                with self._translated_errors(method):
                    return await response
            except asyncio.CancelledError:
                _cancel(response)
                raise

    async def stream(self, method: str, *arguments: Any) -> AsyncGenerator[Any, None]:
        with self._counted(1):
            async with aclosing(self._chunks(method, arguments)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _chunks(self, method: str, arguments: tuple[Any, ...]) -> AsyncGenerator[Any, None]:
        # Serve limits how far a replica is ahead of a slow reader only where its calls go over gRPC.
        response = await self._send(method, arguments, stream=True)
        ended = False
        try:
            while True:
                with self._translated_errors(method):
                    chunk = await anext(response, END)
                if chunk is END:
                    ended = True
                    return
                yield chunk
        finally:
            if not ended:
                _cancel(response)

    def report_queued(self, requests: int) -> None:
        """Do nothing: Serve counts what waits for its handle, and its public API takes no other number."""

    def close(self) -> None:
        """Do nothing: Serve owns the connections of a handle."""

    async def find(self) -> DeploymentHandle:
        """Return the handle of the model's application. Raises `ModelNotReady` where there is none yet."""
        async with self._finding:
            if self.handle is None:
                try:
                    handle = await asyncio.to_thread(serve.get_app_handle, self._model_id)
                except RayServeException:
                    raise ModelNotReady(f"model {self._model_id!r} is loading") from None
                self.handle = handle.options()  # which makes it follow the replicas
            return self.handle

    @contextmanager
    def _counted(self, requests: int) -> Iterator[None]:
        self.requests += requests
        try:
            yield
        finally:
            self.requests -= requests

    async def _send(self, method: str, arguments: tuple[Any, ...], *, stream: bool) -> Any:
        handle = (await self.find()).options(method_name=method, stream=stream)
        # In a separate context: Serve cancels all calls that it finds in a request's context when that
        # request's client disconnects, but several requests may share this call.
        return Context().run(handle.remote, *arguments)

    @contextmanager
    def _translated_errors(self, method: str) -> Iterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            raise ConnectionError("the replica has stopped") from None
        except RayTaskError as error:
            if isinstance(error.cause, InferenceError):
                raise error.cause from None
            log.exception("a replica's `%s` failed", method)
            raise Internal("the replica failed") from None
        except RayActorError as error:
            raise ConnectionError("the replica has gone") from error
        except BackPressureError as error:
            sentence = f"model {self._model_id!r} has all the requests it can hold"
            raise Overloaded(sentence, retry_after=error.retry_after_s) from None


def _cancel(response: Any) -> None:
    # A call that has failed already raises its own error here.
    with contextlib.suppress(Exception):
        response.cancel()
