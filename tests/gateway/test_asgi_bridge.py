"""A page behind the bridge is the page itself: bodies, headers, streams, and callers that go."""

import asyncio
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

from deployments.gateway.asgi_bridge import Bridge
from deployments.gateway.ui_deployment import Page
from deployments.wire import http as wire_http


class Handle:
    """Stands for a DeploymentHandle: what crosses it is pickled, as between two processes."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def options(self, **_: Any) -> "Handle":
        return self

    @property
    def asgi(self) -> "Handle":
        return self

    def remote(self, scope: Any, body: bytes) -> "Messages":
        return Messages(self.page.asgi(*pickle.loads(pickle.dumps((scope, body)))))


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
        }
    )


async def ticks(request: Request) -> Response:
    async def each() -> AsyncIterator[bytes]:
        try:
            for number in range(1000):
                yield f"data: {number}\n\n".encode()
                await asyncio.sleep(0.001)
        finally:
            request.app.state.ended.set()

    return StreamingResponse(each(), media_type="text/event-stream")


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
    page = Page(app)
    door = Starlette(routes=[Mount("/ui", Bridge(Handle(page)))])  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://door") as client:
        await asyncio.sleep(0)
        await page.check_health()
        yield client
    page._lifespan.cancel()


async def test_a_request_crosses_whole(http: httpx.AsyncClient, app: Starlette) -> None:
    answer = await http.post("/ui/echo?a=1", content=b"x" * 100_000, headers={"x": "y"})
    assert answer.json() == {"path": "/ui/echo", "query": "a=1", "body": 100_000, "header": "y"}
    assert app.state.alive, "its lifespan runs"
    assert (await http.get("/ui/nowhere")).status_code == 404


async def test_a_stream_crosses_and_ends_when_its_caller_goes(
    http: httpx.AsyncClient, app: Starlette
) -> None:
    scope = {"type": "http", "method": "GET", "path": "/ui/ticks", "headers": [], "query_string": b""}
    door = http._transport.app  # type: ignore[attr-defined]
    said: asyncio.Queue[Any] = asyncio.Queue()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    caller = asyncio.create_task(door(scope, receive, said.put))
    assert (await said.get())["status"] == 200
    assert [(await said.get())["body"] for _ in range(3)] == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]
    caller.cancel()
    await asyncio.wait_for(app.state.ended.wait(), 1)


async def test_too_large_a_body_is_refused(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_http, "MAX_BODY", 10)
    assert (await http.post("/ui/echo", content=b"x" * 11)).status_code == 413


async def test_a_page_whose_app_has_ended_is_ill(app: Starlette) -> None:
    page = Page(app)
    await asyncio.sleep(0)
    await page.check_health()
    page._lifespan.cancel()
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await page.check_health()
