"""The deployment that runs the Gradio pages, behind the gateway's bridge."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.applications import Starlette
from starlette.types import Message, Scope

from deployments.cluster.ray_private.controller import serve_ports

START_UI_S = 120.0


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


class UI:
    """The Gradio pages. One replica: Gradio keeps its sessions in memory."""

    def __init__(self) -> None:
        self._page = asyncio.get_running_loop().create_task(self._open())

    async def asgi(self, scope: Scope, body: bytes) -> AsyncGenerator[Message]:
        """The ASGI messages that answer one request."""
        async with aclosing((await asyncio.shield(self._page)).asgi(scope, body)) as messages:
            async for message in messages:
                yield message

    async def check_health(self) -> None:
        """Raise when the pages could not be made or no longer run."""
        await (await asyncio.wait_for(asyncio.shield(self._page), START_UI_S)).check_health()

    async def _open(self) -> Page:
        http_port, grpc_port = await serve_ports()
        return Page(await asyncio.to_thread(_ui_app, f"http://127.0.0.1:{http_port}", grpc_port))


def _ui_app(router_url: str, grpc_port: int) -> Starlette:
    from ui.app import build as build_ui  # Gradio stays out of the Routers' processes

    return build_ui(router_url, behind_gateway=True, grpc_port=grpc_port)
