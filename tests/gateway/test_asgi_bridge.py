"""The ASGI bridge: bodies, headers, streams and disconnects cross it."""

import asyncio
import gzip
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from deployments.gateway.asgi_bridge import AsgiBridge
from deployments.gateway.ui_deployment import BridgedApp
from deployments.wire import http as wire_http


class Handle:
    """A DeploymentHandle in this process; it pickles the arguments, as between two processes."""

    def __init__(self, app: BridgedApp) -> None:
        self.app = app

    def options(self, **_: Any) -> "Handle":
        return self

    @property
    def asgi(self) -> "Handle":
        return self

    def remote(self, scope: Any, body: bytes) -> "Messages":
        return Messages(self.app.asgi(*pickle.loads(pickle.dumps((scope, body)))))


class Messages:
    def __init__(self, messages: Any) -> None:
        self.messages = messages

    def __aiter__(self) -> Any:
        return self.messages

    def cancel(self) -> None:
        self.closing = asyncio.get_running_loop().create_task(self.messages.aclose())


async def echo(request: Request) -> Response:
    body = await request.body()
    return JSONResponse(
        {
            "path": request.url.path,
            "query": request.url.query,
            "body": len(body),
            "header": request.headers.get("x"),
            "encoding": request.headers.get("content-encoding"),
        }
    )


async def ticks(request: Request) -> Response:
    async def events() -> AsyncIterator[bytes]:
        try:
            for number in range(1000):
                yield f"data: {number}\n\n".encode()
                await asyncio.sleep(0.001)
        finally:
            request.app.state.ended.set()

    return StreamingResponse(events(), media_type="text/event-stream")


@pytest.fixture
async def app() -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.alive = True
        yield

    app = Starlette(
        routes=[Route("/ui/echo", echo, methods=["GET", "POST"]), Route("/ui/ticks", ticks)],
        lifespan=lifespan,
    )
    app.state.ended = asyncio.Event()
    return app


@pytest.fixture
async def http(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    bridged = BridgedApp(app)
    gateway = Starlette(routes=[Mount("/ui", AsgiBridge(Handle(bridged)))])  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://test") as client:
        await asyncio.sleep(0)
        await bridged.check_health()
        yield client
    bridged._lifespan.cancel()


async def test_request_crosses_with_path_query_body_and_headers(
    http: httpx.AsyncClient, app: Starlette
) -> None:
    response = await http.post("/ui/echo?a=1", content=b"x" * 100_000, headers={"x": "y"})
    assert response.json() == {
        "path": "/ui/echo",
        "query": "a=1",
        "body": 100_000,
        "header": "y",
        "encoding": None,
    }
    assert app.state.alive, "the lifespan runs"
    assert (await http.get("/ui/nowhere")).status_code == 404


async def test_stream_crosses_and_ends_when_client_disconnects(
    http: httpx.AsyncClient, app: Starlette
) -> None:
    scope = {"type": "http", "method": "GET", "path": "/ui/ticks", "headers": [], "query_string": b""}
    gateway = http._transport.app  # type: ignore[attr-defined]
    messages: asyncio.Queue[Any] = asyncio.Queue()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    request = asyncio.create_task(gateway(scope, receive, messages.put))
    assert (await messages.get())["status"] == 200
    assert [(await messages.get())["body"] for _ in range(3)] == [
        b"data: 0\n\n",
        b"data: 1\n\n",
        b"data: 2\n\n",
    ]
    request.cancel()
    await asyncio.wait_for(app.state.ended.wait(), 1)


async def test_body_over_limit_is_413(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_http, "MAX_BODY", 10)
    assert (await http.post("/ui/echo", content=b"x" * 11)).status_code == 413


async def test_health_check_fails_after_lifespan_has_ended(app: Starlette) -> None:
    bridged = BridgedApp(app)
    await asyncio.sleep(0)
    await bridged.check_health()
    bridged._lifespan.cancel()
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="lifespan"):
        await bridged.check_health()


async def test_compressed_body_crosses_decompressed(http: httpx.AsyncClient) -> None:
    body = gzip.compress(b"x" * 1000)
    response = await http.post("/ui/echo", content=body, headers={"content-encoding": "gzip", "x": "y"})
    assert response.json() == {"path": "/ui/echo", "query": "", "body": 1000, "header": "y", "encoding": None}
    unknown = await http.post("/ui/echo", content=body, headers={"content-encoding": "br"})
    assert unknown.status_code == 415
