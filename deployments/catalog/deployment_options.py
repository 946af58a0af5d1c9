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
    # A line per call costs more than a small model's answer, and so does one that is made and not written.
    "logging_config": {"enable_access_log": False, "log_level": "WARNING"},
}
AUTOSCALING = {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 8}
NUM_CPUS = 0.05
# In the fast lane each replica of a routed application listens on ports of its own and drains them for half a
# minute when it stops. Only the Router is routed.
NO_INGRESS = {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0"}
# What blocks runs in threads of the replica's own: another loop for it would be one thread more to wake.
ONE_LOOP = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}
# What oneDNN prepares for a layer and a number of tokens is kept for the next such pass, by it and by torch,
# by default 1,024 times each: 0.5 GB after some minutes of mixed texts, and no pass is quicker for it.
FEW_SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "48", "LRU_CACHE_CAPACITY": "48"}
RUNTIME_ENV = {
    "env_vars": {**NO_INGRESS, **ONE_LOOP, **FEW_SHAPES, **warm.ENVIRONMENT, "OMP_NUM_THREADS": "1"}
}
"""Of a replica that shares a processor, and of the spare workers."""


def options(given: dict[str, Any]) -> dict[str, Any]:
    """Roster's deployment options with the model's own laid over them."""
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
    # Said before torch is imported, which a spare worker has done before Ray could say it.
    threads = {"OMP_NUM_THREADS": str(max(1, int(given.get("num_cpus", NUM_CPUS))))}
    env_vars = {**RUNTIME_ENV["env_vars"], **threads, **runtime_env.get("env_vars", {})}
    return {"num_cpus": NUM_CPUS, **given, "runtime_env": {**runtime_env, "env_vars": env_vars}}
