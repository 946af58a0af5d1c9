"""`build(args)` -> the gateway: the one application with a route. Named in serve_config.yaml."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Message, Scope

from deployments.catalog.catalog import Catalog
from deployments.cluster.ray_private import serve_ports
from deployments.dialects import DIALECTS
from deployments.gateway import http_app as web
from deployments.gateway.asgi_bridge import Bridge, Page
from deployments.gateway.grpc_service import speaks_grpc
from deployments.routing.router import TRANSPORTS, Router

ROOT = Path(__file__).parent.parent
START_UI_S = 120.0
# Between two collections of garbage, instead of 700: small requests soon make as many.
MANY_OBJECTS = 10_000


class GatewayArgs(BaseModel):
    """The gateway's `args` in serve_config.yaml.

    `models` is the folder to follow, relative to the checkout. `picture_hosts` are the hosts from which
    pictures may be fetched by URL. `timeout_s` bounds every call, and a stream from chunk to chunk. `ui`:
    whether the Gradio pages are served, under /ui. `default_model` answers the routes that name no model.
    `repository_control`: whether callers may unload models and load them again. `transport`: how requests
    reach the models' replicas: over connections of Roster's own, or ("handle") through Ray Serve's public
    handles, which is slower but uses nothing that Ray keeps private. `spare_workers`: how many
    processes per node have imported torch and transformers already (0.5 GB each), so that a new model or
    replica starts sooner.
    """

    model_config = ConfigDict(extra="forbid")

    models: Path = Path("models")
    picture_hosts: list[str] = []
    timeout_s: float = Field(60.0, gt=0)
    ui: bool = True
    default_model: str | None = None
    repository_control: bool = False
    transport: Literal["channel", "handle"] = "channel"
    spare_workers: int = Field(1, ge=0, le=16)


@speaks_grpc
class Door(Router):
    """A Router that speaks every dialect, over HTTP and gRPC, and passes on what is asked of the UI."""

    def __init__(
        self,
        catalog: DeploymentHandle,
        ui: DeploymentHandle | None,
        picture_hosts: list[str],
        timeout_s: float,
        default_model: str | None,
        transport: str,
    ) -> None:
        super().__init__(catalog, picture_hosts, timeout_s, default_model, TRANSPORTS[transport])
        self._ui = ui
        self.has_ui = ui is not None

    def __serve_build_asgi_app__(self) -> Starlette:
        """Called by Ray Serve once the Router is built."""
        app = web.build(self, DIALECTS)
        if self._ui is not None:
            app.routes.append(Mount("/ui", Bridge(self._ui)))
        gc.set_threshold(MANY_OBJECTS)
        return app


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


def build(args: dict[str, Any]) -> serve.Application:
    """The gateway application: Routers that speak every dialect, the Catalog they listen to, and the UI."""
    gateway = GatewayArgs.model_validate(args)
    catalog = serve.deployment(Catalog).options(
        ray_actor_options={"num_cpus": 0.05}, max_ongoing_requests=1000, health_check_period_s=1
    )
    ui = serve.deployment(UI).options(
        ray_actor_options={"num_cpus": 0.05},
        max_ongoing_requests=1000,
        health_check_period_s=1,
        health_check_timeout_s=START_UI_S,
    )
    router = serve.deployment(serve.ingress()(Door)).options(
        name="Router",
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=1000,
        max_surge_percent=100,
        health_check_period_s=1,
        logging_config={"enable_access_log": False, "log_level": "WARNING"},  # or each request makes a record
    )
    models = str((ROOT / gateway.models).resolve())
    pages = ui.bind() if gateway.ui else None
    return router.bind(
        catalog.bind(models, gateway.repository_control, gateway.spare_workers),
        pages,
        gateway.picture_hosts,
        gateway.timeout_s,
        gateway.default_model,
        gateway.transport,
    )


def _ui_app(router_url: str, grpc_port: int) -> Starlette:
    from ui.app import build as build_ui  # Gradio stays out of the Routers' processes

    return build_ui(router_url, at_door=True, grpc_port=grpc_port)
