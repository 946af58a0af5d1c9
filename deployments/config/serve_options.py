"""Checks a model's deployment options with Ray Serve's own schemas."""

import inspect
from math import isfinite
from typing import Any

from pydantic import BaseModel, ValidationError

from deployments.config.errors import ConfigError, hint, sentences

OURS = {"name", "version", "user_config", "func_or_class"}  # what Roster itself sets on a model's deployment


def check_deployment(options: dict[str, Any]) -> None:
    """Check Ray Serve deployment options with Serve's own schemas, and their names. Raises `ConfigError`."""
    from ray.serve import Deployment
    from ray.serve import config as serve_config
    from ray.serve.schema import DeploymentSchema, RayActorOptionsSchema

    known = {*DeploymentSchema.model_fields} & {*inspect.signature(Deployment.options).parameters} - OURS
    _check("deployment", options, DeploymentSchema, known, name="model")
    parts: dict[str, type[BaseModel]] = {
        "ray_actor_options": RayActorOptionsSchema,
        "autoscaling_config": serve_config.AutoscalingConfig,
        "request_router_config": serve_config.RequestRouterConfig,
        "backpressure_config": serve_config.BackpressureConfig,
    }
    for name, schema in parts.items():
        if options.get(name) is not None:
            _check(f"deployment.{name}", options[name], schema, {*schema.model_fields})


def _check(where: str, given: Any, schema: type[BaseModel], known: set[str], **fixed: Any) -> None:
    if not isinstance(given, dict):
        raise ConfigError(f"`{where}` must be a mapping")
    for name in given:
        if name not in known:
            raise ConfigError(f"`{where}.{name}` is no option of Ray Serve's{hint(name, known)}")
        if isinstance(given[name], float) and not isfinite(given[name]):
            raise ConfigError(f"`{where}.{name}` must be a finite number")
    try:
        schema.model_validate({**fixed, **given})
    except ValidationError as invalid:
        raise ConfigError(sentences(invalid, schema, where)) from None
