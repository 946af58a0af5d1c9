"""Roster's defaults for a model's Serve deployment, with the model's own options laid over them."""

from typing import Any

from deployments.cluster import warm_workers as warm

DEFAULTS: dict[str, Any] = {
    "max_ongoing_requests": 100,
    "max_queued_requests": 1000,
    "max_surge_percent": 100,
    "max_constructor_retry_count": 1,
    "health_check_period_s": 1,
    "graceful_shutdown_wait_loop_s": 0.5,
    # An access log costs more CPU than a small model's inference, even if the record is filtered out.
    "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
}
AUTOSCALING = {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 8}
NUM_CPUS = 0.05
# In high-throughput mode Serve gives each replica ingress ports, which it drains for half a minute when the
# replica stops. Models have no route, so they need no ports.
NO_INGRESS = {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0"}
# The Replica runs blocking code in its own threads. A second event loop would add a thread switch per call.
ONE_LOOP = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}
# oneDNN and torch cache a primitive per layer and number of tokens, by default 1,024 each: 0.5 GB after some
# minutes of mixed texts, without a measurable gain.
FEW_SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "48", "LRU_CACHE_CAPACITY": "48"}
RUNTIME_ENV = {
    "env_vars": {**NO_INGRESS, **ONE_LOOP, **FEW_SHAPES, **warm.ENVIRONMENT, "OMP_NUM_THREADS": "1"}
}
"""The runtime environment of a replica that has no whole CPU, and of the warm workers."""


def options(given: dict[str, Any]) -> dict[str, Any]:
    """Return Roster's deployment options, overridden by the `given` ones of a model."""
    scaling = (
        {} if {"num_replicas", "autoscaling_config"} & given.keys() else {"autoscaling_config": AUTOSCALING}
    )
    return {
        **DEFAULTS,
        **scaling,
        **given,
        "ray_actor_options": _actor_options(given.get("ray_actor_options") or {}),
    }


def _actor_options(given: dict[str, Any]) -> dict[str, Any]:
    runtime_env = given.get("runtime_env") or {}
    # Ray sets this too late for a warm worker, which has imported torch already.
    threads = {"OMP_NUM_THREADS": str(max(1, int(given.get("num_cpus") or NUM_CPUS)))}
    env_vars = {**RUNTIME_ENV["env_vars"], **threads, **runtime_env.get("env_vars", {})}
    return {"num_cpus": NUM_CPUS, **given, "runtime_env": {**runtime_env, "env_vars": env_vars}}
