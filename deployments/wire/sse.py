"""Server-sent events: an answer told piece by piece, and dropped at once when nobody listens any more."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from deployments.errors import InferenceError
from deployments.wire.http import request_id_of, to_public_error

_END = object()


async def event_stream(
    request: Request,
    chunks: AsyncIterator[Any],
    encode_chunk: Callable[[Any], bytes],
    encode_error: Callable[[InferenceError], bytes],
    last: bytes | None = None,
) -> Response:
    """Respond with one event per chunk, encoded by `encode_chunk`, then `last` if the dialect has one.

    Waits for the first chunk, so that whatever fails before it is raised here and gets its own status; what
    fails later is told as `encode_error`'s event. `chunks` is closed as soon as the caller has gone.
    """

    async def events(first: Any) -> AsyncIterator[bytes]:
        try:
            if first is not _END:
                yield _event(encode_chunk(first))
                async for chunk in chunks:
                    yield _event(encode_chunk(chunk))
        except Exception as error:
            yield _event(encode_error(to_public_error(error, request_id_of(request))))
        if last is not None:
            yield _event(last)

    try:
        return _EventStream(events(await _first(request, chunks)), chunks)
    except BaseException:
        await _close(chunks)
        raise


class _EventStream(StreamingResponse):
    def __init__(self, events: AsyncIterator[bytes], chunks: AsyncIterator[Any]) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self.chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # From ASGI 2.4 on, Starlette would notice only at its next write that the caller has gone.
            await super().__call__({**scope, "asgi": {"spec_version": "2.3"}}, receive, send)
        finally:
            await _close(self.chunks)


async def _first(request: Request, chunks: AsyncIterator[Any]) -> Any:
    """The first chunk, or `_END` if there is none. Raises `ClientDisconnect` if the caller goes before."""
    pulling = asyncio.ensure_future(anext(chunks, _END))
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({pulling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not pulling.done():
            raise ClientDisconnect
        return pulling.result()
    finally:
        for waiting in (pulling, leaving):
            waiting.cancel()
        await asyncio.gather(pulling, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _close(chunks: AsyncIterator[Any]) -> None:
    if isinstance(chunks, AsyncGenerator):
        await chunks.aclose()


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
