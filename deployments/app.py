"""`build(args)` -> the gateway: the one application with a route. Named in serve_config.yaml."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from starlette.applications import Starlette

from deployments import web
from deployments.catalog import Catalog
from deployments.dialects import DIALECTS
from deployments.router import Router
from deployments.rpc import speaks_grpc

ROOT = Path(__file__).parent.parent


class GatewayArgs(BaseModel):
    """The gateway's `args` in serve_config.yaml.

    `models` is the folder to follow, relative to the checkout. `picture_hosts` are the hosts from which
    pictures may be fetched by URL. `timeout_s` bounds every call, and a stream from chunk to chunk.
    """

    model_config = ConfigDict(extra="forbid")

    models: Path = Path("models")
    picture_hosts: list[str] = []
    timeout_s: float = Field(60.0, gt=0)


@speaks_grpc
class Door(Router):
    """A Router that speaks every dialect, over HTTP and gRPC."""

    def __serve_build_asgi_app__(self) -> Starlette:
        """Called by Ray Serve once the Router is built."""
        return web.build(self, DIALECTS)


def build(args: dict[str, Any]) -> serve.Application:
    """The gateway application: Routers that speak every dialect, and the Catalog they listen to."""
    gateway = GatewayArgs.model_validate(args)
    catalog = serve.deployment(Catalog).options(
        ray_actor_options={"num_cpus": 0.05}, max_ongoing_requests=1000, health_check_period_s=1
    )
    router = serve.deployment(serve.ingress()(Door)).options(
        name="Router",
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=1000,
        max_surge_percent=100,
        health_check_period_s=1,
    )
    models = str((ROOT / gateway.models).resolve())
    return router.bind(catalog.bind(models), gateway.picture_hosts, gateway.timeout_s)
