"""The class that Ray Serve routes to: a Router with every dialect's HTTP operations and rpcs."""

import gc

from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.routing import Mount

from deployments.dialects import DIALECTS
from deployments.gateway import http_app as web
from deployments.gateway.asgi_bridge import Bridge
from deployments.gateway.grpc_service import with_rpc_methods
from deployments.routing.router import TRANSPORTS, Router

# Between two collections of garbage, instead of 700: small requests soon make as many.
MANY_OBJECTS = 10_000


@with_rpc_methods
class Door(Router):
    """A Router that speaks every dialect, over HTTP and gRPC, and passes on what is asked of the UI."""

    def __init__(
        self,
        catalog: DeploymentHandle,
        ui: DeploymentHandle | None,
        allowed_image_hosts: list[str],
        timeout_s: float,
        default_model: str | None,
        transport: str,
    ) -> None:
        super().__init__(catalog, allowed_image_hosts, timeout_s, default_model, TRANSPORTS[transport])
        self._ui = ui
        self.has_ui = ui is not None

    def __serve_build_asgi_app__(self) -> Starlette:
        """Called by Ray Serve once the Router is built."""
        app = web.build(self, DIALECTS)
        if self._ui is not None:
            app.routes.append(Mount("/ui", Bridge(self._ui)))
        gc.set_threshold(MANY_OBJECTS)
        return app
