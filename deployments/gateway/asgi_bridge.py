"""ASGI over a Serve handle: the gateway forwards requests for the UI to the UI's deployment.

gRPC calls name no application, so only one application may have a route; the UI is therefore a deployment
behind the gateway. A request crosses as its scope and body; the response returns as ASGI messages, streamed
as the UI produces them. That covers pages, uploads and server-sent events. WebSockets do not cross.
"""

from typing import Any

from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from deployments.dialect import HTTP_STATUS
from deployments.errors import InferenceError
from deployments.wire.http import UnsupportedMedia, decompressed_scope, read_body

FORWARDED_KEYS = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string")


class AsgiBridge:
    """The gateway's end: an ASGI application that forwards each request to the deployment behind `handle`."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._asgi = handle.options(stream=True).asgi

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(Request(scope, receive))
        except InferenceError as error:
            status = 415 if isinstance(error, UnsupportedMedia) else HTTP_STATUS[error.kind]
            await PlainTextResponse(str(error), status)(scope, receive, send)
            return
        messages = self._asgi.remote(_picklable(decompressed_scope(scope)), body)
        try:
            async for message in messages:
                await send(message)
        finally:
            messages.cancel()


def _picklable(scope: Scope) -> dict[str, Any]:
    """Return the parts of a scope that can be pickled and have a meaning in another process."""
    parts = {key: scope[key] for key in FORWARDED_KEYS if key in scope}
    addresses = {key: tuple(scope[key]) for key in ("client", "server") if scope.get(key)}
    return {**parts, **addresses, "headers": [tuple(pair) for pair in scope["headers"]], "root_path": ""}
