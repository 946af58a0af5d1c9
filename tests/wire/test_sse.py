"""Server-sent events: exact bytes, errors before and after the first chunk, clients that disconnect."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from deployments.errors import InvalidInput
from deployments.wire.sse import event_stream


class Client:
    """An ASGI client that records messages, and disconnects after a number of them."""

    def __init__(self, disconnect_after: int | None = None) -> None:
        self.disconnect_after = disconnect_after
        self.messages: list[Any] = []
        self.disconnected = asyncio.Event()
        self.scope = {"type": "http", "method": "POST", "headers": [], "asgi": {"spec_version": "2.4"}}
        if disconnect_after == 0:
            self.disconnected.set()

    async def receive(self) -> dict[str, Any]:
        await self.disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        if len(self.messages) == self.disconnect_after:
            self.disconnected.set()

    async def response(self, chunks: AsyncGenerator[str, None]) -> Response:
        request = Request(self.scope, self.receive)
        return await event_stream(request, chunks, str.encode, lambda error: str(error).encode(), b"[DONE]")

    async def call(self, chunks: AsyncGenerator[str, None]) -> bytes:
        await (await self.response(chunks))(self.scope, self.receive, self.send)
        return b"".join(message.get("body", b"") for message in self.messages)


class Chunks:
    """A generator that yields texts and raises errors; None makes it wait forever."""

    def __init__(self, *chunks: str | Exception | None) -> None:
        self.chunks, self.closed = chunks, False

    async def __call__(self) -> AsyncGenerator[str, None]:
        try:
            for chunk in self.chunks:
                if chunk is None:
                    await asyncio.Event().wait()
                elif isinstance(chunk, Exception):
                    raise chunk
                else:
                    yield chunk
        finally:
            self.closed = True


async def test_event_per_chunk() -> None:
    client = Client()
    assert await client.call(Chunks("a", "é")()) == "data: a\n\ndata: é\n\ndata: [DONE]\n\n".encode()
    start = client.messages[0]
    assert start["status"] == 200
    assert dict(start["headers"]) == {
        b"cache-control": b"no-cache",
        b"x-accel-buffering": b"no",
        b"content-type": b"text/event-stream; charset=utf-8",
    }


async def test_stream_without_chunks() -> None:
    assert await Client().call(Chunks()()) == b"data: [DONE]\n\n"


async def test_error_before_the_first_chunk_raises() -> None:
    with pytest.raises(InvalidInput, match="too long"):
        await Client().response(Chunks(InvalidInput("too long"))())


async def test_error_after_the_first_chunk_is_an_event() -> None:
    body = await Client().call(Chunks("a", InvalidInput("too long"))())
    assert body == b"data: a\n\ndata: too long\n\ndata: [DONE]\n\n"


async def test_client_that_disconnects_before_the_first_chunk() -> None:
    chunks = Chunks(None)
    with pytest.raises(ClientDisconnect):
        await Client(disconnect_after=0).response(chunks())
    assert chunks.closed


async def test_client_that_disconnects_during_the_stream() -> None:
    chunks = Chunks("a", None)
    client = Client(disconnect_after=2)
    async with asyncio.timeout(5):
        assert await client.call(chunks()) == b"data: a\n\n"
    assert chunks.closed


async def test_server_that_stops_during_the_stream() -> None:
    chunks = Chunks("a", None)
    serving = asyncio.ensure_future(Client().call(chunks()))
    await asyncio.sleep(0.05)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert chunks.closed
