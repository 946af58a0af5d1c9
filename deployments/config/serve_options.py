"""Checks a model's deployment options with Ray Serve's own schemas."""

import inspect
from math import isfinite
from typing import Any

from pydantic import BaseModel, ValidationError

from deployments.config.errors import ConfigError, describe_errors, suggest

RESERVED = {
    "name",
    "version",
    "user_config",
    "func_or_class",
}  # Roster sets these itself


def check_deployment(options: dict[str, Any]) -> None:
    """Check Ray Serve deployment options with Serve's own schemas, and their names. Raises `ConfigError`."""
    schema, known = deployment_schema()
    _check("deployment", options, schema, known, name="model")
    for name, nested in nested_schemas().items():
        if options.get(name) is not None:
            _check(f"deployment.{name}", options[name], nested, {*nested.model_fields})
    _check_environment(options.get("ray_actor_options") or {})


def deployment_schema() -> tuple[type[BaseModel], set[str]]:
    """Return Serve's schema of a deployment, and the names of its fields that a model may set."""
    from ray.serve import Deployment
    from ray.serve.schema import DeploymentSchema

    parameters = inspect.signature(Deployment.options).parameters
    return DeploymentSchema, ({*DeploymentSchema.model_fields} & {*parameters}) - RESERVED


def nested_schemas() -> dict[str, type[BaseModel]]:
    """Return Serve's schemas of the options that are mappings, by name."""
    from ray.serve import config
    from ray.serve.schema import RayActorOptionsSchema

    return {
        "ray_actor_options": RayActorOptionsSchema,
        "autoscaling_config": config.AutoscalingConfig,
        "request_router_config": config.RequestRouterConfig,
        "backpressure_config": config.BackpressureConfig,
    }


def _check_environment(actor_options: dict[str, Any]) -> None:
    """Check the environment variables, whose values Ray refuses only after it has started to deploy."""
    where = "deployment.ray_actor_options.runtime_env.env_vars"
    variables = actor_options.get("runtime_env", {}).get("env_vars", {})
    if not isinstance(variables, dict):
        raise ConfigError(f"`{where}` must be a mapping of names to texts")
    for name, value in variables.items():
        if not isinstance(name, str) or not name or {*name} & {"=", "\0"}:
            raise ConfigError(f"`{where}`: {name!r} cannot be the name of an environment variable")
        if not isinstance(value, str) or "\0" in value:
            raise ConfigError(f"`{where}.{name}` must be a text, not {value!r}; put it in quotes")


def _check(where: str, given: Any, schema: type[BaseModel], known: set[str], **fixed: Any) -> None:
    if not isinstance(given, dict):
        raise ConfigError(f"`{where}` must be a mapping")
    for name in given:
        if name not in known:
            raise ConfigError(f"`{where}.{name}` is no option of Ray Serve{suggest(name, known)}")
        if isinstance(given[name], float) and not isfinite(given[name]):
            raise ConfigError(f"`{where}.{name}` must be a finite number")
    try:
        schema.model_validate({**fixed, **given})
    except ValidationError as invalid:
        raise ConfigError(describe_errors(invalid, schema, where)) from None
