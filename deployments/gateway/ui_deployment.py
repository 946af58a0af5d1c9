"""The deployment that runs the Gradio UI behind the gateway's ASGI bridge."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.applications import Starlette
from starlette.types import Message, Scope

from deployments.cluster.ray_private.controller import serve_ports

START_UI_S = 120.0


class BridgedApp:
    """The deployment's end of the bridge: it runs `app`'s lifespan and serves the forwarded requests."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._lifespan = asyncio.get_running_loop().create_task(self._run_lifespan())

    async def asgi(self, scope: Scope, body: bytes) -> AsyncGenerator[Message]:
        """Yield the ASGI messages that answer one request. Closing the generator cancels the request."""
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        task = asyncio.get_running_loop().create_task(self._serve_request(scope, body, messages))
        try:
            while (message := await messages.get()) is not None:
                yield message
        finally:
            task.cancel()

    async def check_health(self) -> None:
        """Raise `RuntimeError` if the app's lifespan has ended: its queue would no longer run."""
        if self._lifespan.done():
            raise RuntimeError("the lifespan of the UI's application has ended")

    async def _serve_request(
        self, scope: Scope, body: bytes, messages: "asyncio.Queue[Message | None]"
    ) -> None:
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if unread:
                return unread.pop()
            await asyncio.Event().wait()  # a client that disconnects cancels this task
            raise AssertionError("unreachable")

        try:
            await self._app(scope, receive, messages.put)
        finally:
            messages.put_nowait(None)

    async def _run_lifespan(self) -> None:
        async with self._app.router.lifespan_context(self._app):
            await asyncio.Event().wait()


class UI:
    """The Gradio UI. It has one replica, because Gradio keeps its sessions in memory."""

    def __init__(self) -> None:
        self._app = asyncio.get_running_loop().create_task(self._build_app())

    async def asgi(self, scope: Scope, body: bytes) -> AsyncGenerator[Message]:
        """Yield the ASGI messages that answer one request."""
        async with aclosing((await asyncio.shield(self._app)).asgi(scope, body)) as messages:
            async for message in messages:
                yield message

    async def check_health(self) -> None:
        """Raise an exception if the UI could not be built or no longer runs."""
        await (await asyncio.wait_for(asyncio.shield(self._app), START_UI_S)).check_health()

    async def _build_app(self) -> BridgedApp:
        http_port, grpc_port = await serve_ports()
        return BridgedApp(await asyncio.to_thread(_ui_app, f"http://127.0.0.1:{http_port}", grpc_port))


def _ui_app(router_url: str, grpc_port: int) -> Starlette:
    from ui.app import build as build_ui  # keeps Gradio out of the Routers' processes

    return build_ui(router_url, behind_gateway=True, grpc_port=grpc_port)
