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
RUNTIME_ENV = "deployment.ray_actor_options.runtime_env"


def check_deployment(options: dict[str, Any]) -> None:
    """Check Ray Serve deployment options with Serve's own schemas, and their names. Raises `ConfigError`."""
    schema, known = deployment_schema()
    _check_names("deployment", options, known)
    _check_runtime_env(options.get("ray_actor_options"))
    for name, nested in nested_schemas().items():  # first, because their errors name the fields in them
        if options.get(name) is not None:
            _check_names(f"deployment.{name}", options[name], {*nested.model_fields})
            _validate(f"deployment.{name}", options[name], nested)
    _validate("deployment", {"name": "model", **options}, schema)


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


def _check_runtime_env(actor_options: Any) -> None:
    """Check the runtime environment as Ray does, but before it has started to deploy."""
    from ray.runtime_env import RuntimeEnv

    runtime_env = actor_options.get("runtime_env") if isinstance(actor_options, dict) else None
    if not isinstance(runtime_env, dict):
        return  # absent, or the schema of the actor options refuses it
    _check_env_vars(runtime_env.get("env_vars", {}))
    try:
        RuntimeEnv(**runtime_env)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"`{RUNTIME_ENV}`: {' '.join(str(error).split())}") from None


def _check_env_vars(variables: Any) -> None:
    if not isinstance(variables, dict):
        raise ConfigError(f"`{RUNTIME_ENV}.env_vars` must be a mapping of names to texts")
    for name, value in variables.items():
        if not isinstance(name, str) or not name or {*name} & {"=", "\0"}:
            problem = f"{name!r} cannot be the name of an environment variable"
            raise ConfigError(f"`{RUNTIME_ENV}.env_vars`: {problem}")
        if not isinstance(value, str) or "\0" in value:
            problem = f"must be a text, not {value!r}; put it in quotes"
            raise ConfigError(f"`{RUNTIME_ENV}.env_vars.{name}` {problem}")


def _check_names(where: str, given: Any, known: set[str]) -> None:
    if not isinstance(given, dict):
        raise ConfigError(f"`{where}` must be a mapping")
    for name in given:
        if name not in known:
            raise ConfigError(f"`{where}.{name}` is no option of Ray Serve{suggest(name, known)}")
        if isinstance(given[name], float) and not isfinite(given[name]):
            raise ConfigError(f"`{where}.{name}` must be a finite number")


def _validate(where: str, given: dict[str, Any], schema: type[BaseModel]) -> None:
    try:
        validated = schema.model_validate(given)
    except ValidationError as invalid:
        raise ConfigError(describe_errors(invalid, schema, where)) from None
    for name, value in given.items():
        # The schemas accept "0.5" for 0.5, but Serve gets the options as they are written.
        if isinstance(value, str) and isinstance(getattr(validated, name, None), (int, float)):
            raise ConfigError(f"`{where}.{name}` must be a number, not the text {value!r}")
