"""The class that Ray Serve routes to: a Router with every dialect's HTTP operations and rpcs."""

import gc

from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.routing import Mount

from deployments.dialects import DIALECTS
from deployments.gateway import http_app
from deployments.gateway.asgi_bridge import AsgiBridge
from deployments.gateway.grpc_service import with_rpc_methods
from deployments.routing.router import TRANSPORTS, Router

# New objects between two garbage collections. Small requests soon allocate Python's default of 700.
GC_THRESHOLD = 10_000


@with_rpc_methods
class Ingress(Router):
    """A Router that serves every dialect over HTTP and gRPC, and forwards requests for the UI."""

    def __init__(
        self,
        catalog: DeploymentHandle,
        ui: DeploymentHandle | None,
        allowed_image_hosts: list[str],
        allowed_origins: list[str],
        timeout_s: float,
        default_model: str | None,
        transport: str,
    ) -> None:
        super().__init__(catalog, allowed_image_hosts, timeout_s, default_model, TRANSPORTS[transport])
        self._ui = ui
        self._allowed_origins = allowed_origins
        self.has_ui = ui is not None

    def __serve_build_asgi_app__(self) -> Starlette:
        """Build the ASGI application. Ray Serve calls this after the constructor."""
        app = http_app.build(self, DIALECTS, self._allowed_origins)
        if self._ui is not None:
            app.routes.append(Mount("/ui", AsgiBridge(self._ui)))
        gc.set_threshold(GC_THRESHOLD)
        return app
