"""Builders that a Serve config names: `build` for the gateway, `build_model` for a model declared by hand."""

from pathlib import Path
from typing import Any

from ray import serve

from deployments.catalog.applications import bind
from deployments.catalog.catalog import Catalog
from deployments.config.gateway_config import GatewayArgs
from deployments.config.yaml_file import parse
from deployments.gateway.ingress import Ingress
from deployments.gateway.ui_deployment import START_UI_S, UI

ROOT = Path(__file__).parent.parent


def build(args: dict[str, Any]) -> serve.Application:
    """Build the gateway application: the Routers, the Catalog that they follow, and the UI."""
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
    router = serve.deployment(serve.ingress()(Ingress)).options(
        name="Router",
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=1000,
        max_surge_percent=100,
        health_check_period_s=1,
        # At INFO, Serve makes a log record per request, even without the access log.
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    models = str((ROOT / gateway.models).resolve())
    return router.bind(
        catalog.bind(models, gateway.allow_model_control, gateway.warm_workers),
        ui.bind() if gateway.ui else None,
        gateway.allowed_image_hosts,
        gateway.allowed_origins,
        gateway.timeout_s,
        gateway.default_model,
        gateway.transport,
    )


def build_model(args: dict[str, Any]) -> serve.Application:
    """Build the application of a model that a Serve config declares by hand. The gateway discovers it.

    `args` has the keys of a config.yml. Raises `ConfigError`.
    """
    return bind(parse(args, "args"))
