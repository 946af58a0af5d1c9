"""ASGI over a Serve handle: the Router passes a page's requests on to the deployment that makes the page.

Only one application may have a route (gRPC calls name none), so the UI is a deployment behind the Router. A
request crosses as its scope and body, the answer comes back as ASGI messages, streamed as they are made: all
that pages, uploads and server-sent events need. WebSockets do not cross.
"""

from typing import Any

from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

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


def _carried(scope: Scope) -> dict[str, Any]:
    """What of a scope can be pickled and means something elsewhere."""
    parts = {name: scope[name] for name in CARRIED if name in scope}
    addresses = {name: tuple(scope[name]) for name in ("client", "server") if scope.get(name)}
    return {**parts, **addresses, "headers": [tuple(pair) for pair in scope["headers"]], "root_path": ""}
