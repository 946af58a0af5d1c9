"""ASGI over a Serve handle: the Router passes a page's requests on to the deployment that makes the page.

Only one application may have a route (gRPC calls name none), so the UI is a deployment behind the Router. A
request crosses as its scope and body, the answer comes back as ASGI messages, streamed as they are made: all
that pages, uploads and server-sent events need. WebSockets do not cross.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from deployments.dialect import HTTP_STATUS
from deployments.errors import TooLarge
from deployments.wire.http import read_body

CARRIED = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string")


class Bridge:
    """The Router's end: an ASGI application that answers with what the deployment behind `handle` says."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._asgi = handle.options(stream=True).asgi

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(Request(scope, receive))
        except TooLarge as error:
            await PlainTextResponse(str(error), HTTP_STATUS[error.kind])(scope, receive, send)
            return
        messages = self._asgi.remote(_carried(scope), body)
        try:
            async for message in messages:
                await send(message)
        finally:
            messages.cancel()


class Page:
    """The deployment's end: runs `app`'s lifespan, and answers the requests that come over the bridge."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._lifespan = asyncio.get_running_loop().create_task(self._live())

    async def asgi(self, scope: Scope, body: bytes) -> AsyncGenerator[Message]:
        """The ASGI messages that answer one request. Closing it tells the app that its caller has gone."""
        said: asyncio.Queue[Message | None] = asyncio.Queue()
        task = asyncio.get_running_loop().create_task(self._answer(scope, body, said))
        try:
            while (message := await said.get()) is not None:
                yield message
        finally:
            task.cancel()

    async def check_health(self) -> None:
        """Raise when the app's lifespan has ended: its queue would no longer be worked off."""
        if self._lifespan.done():
            raise RuntimeError("the page's application has ended")

    async def _answer(self, scope: Scope, body: bytes, said: "asyncio.Queue[Message | None]") -> None:
        asked: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if asked:
                return asked.pop()
            await asyncio.Event().wait()  # a caller that goes cancels this task
            raise AssertionError("unreachable")

        try:
            await self._app(scope, receive, said.put)
        finally:
            said.put_nowait(None)

    async def _live(self) -> None:
        async with self._app.router.lifespan_context(self._app):
            await asyncio.Event().wait()


def _carried(scope: Scope) -> dict[str, Any]:
    """What of a scope can be pickled and means something elsewhere."""
    parts = {name: scope[name] for name in CARRIED if name in scope}
    addresses = {name: tuple(scope[name]) for name in ("client", "server") if scope.get(name)}
    return {**parts, **addresses, "headers": [tuple(pair) for pair in scope["headers"]], "root_path": ""}
