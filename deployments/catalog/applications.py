"""A model's configuration as a Ray Serve application: one deployment, no route, a version of our own."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from ray import serve

from deployments.cluster import warm_workers as warm
from deployments.cluster.ray_private import pin_version
from deployments.config.model_config import ModelConfig
from deployments.replica.model_replica import Replica

MARK = (
    "roster"  # in a deployment's user_config: this application is a model, and this is what it was made from
)

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


def bind(
    config: ModelConfig,
    folder: Path | None = None,
    files: str = "",
    *,
    surge: bool = True,
    failed: dict[str, Any] | None = None,
) -> serve.Application:
    """The application that serves `config`; `files` is a signature of what lies in `folder`.

    Without `surge` an old replica stops before a new one starts: slower, but it needs no second GPU.
    An edit that only scales keeps the version: Serve changes the running application without loading again.
    A change of Roster's own code changes every version: the models roll, one replica after the other.
    `failed` tells of tries before this one. Serve starts what it has given up only if something is new in it.
    """
    arguments = config.model_dump(exclude={"deployment", "batching"}), str(folder) if folder else None
    batching = config.batching.model_dump()  # an argument as well, for what is tried when the model loads
    deployment = serve.deployment(Replica).options(
        **{**options(config.deployment), **({} if surge else {"max_surge_percent": 0})},
        name="model",
        user_config={MARK: {**_mark(config, folder, files), "failed": failed}, "batching": batching},
    )
    return pin_version(deployment, _digest(_code(), arguments, files)).bind(*arguments, batching)


def fingerprint(config: ModelConfig, folder: Path | None, files: str) -> str:
    """Changes whenever the application must be deployed again, be it to load anew or only to scale."""
    return _digest(_code(), config.model_dump(), str(folder), files)


def mark(app: dict[str, Any]) -> dict[str, Any]:
    """What a running application (as Serve details it) was made from; empty if it is no model of ours."""
    for deployment in app["deployments"].values():
        user_config = deployment["deployment_config"].get("user_config")
        if isinstance(user_config, dict) and isinstance(user_config.get(MARK), dict):
            return dict(user_config[MARK])
    return {}


def is_anothers(app: dict[str, Any]) -> bool:
    """Whether an application was declared by hand, and not made from a folder."""
    return bool(app["deployments"]) and not mark(app).get("folder")


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


def _mark(config: ModelConfig, folder: Path | None, files: str) -> dict[str, Any]:
    checkpoint = config.checkpoint(folder)
    return {
        "module_id": config.module_id,
        "model": checkpoint.name,
        "revision": checkpoint.revision,
        "folder": str(folder) if folder else None,
        "fingerprint": fingerprint(config, folder, files),
    }


@cache
def _code() -> str:
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return _digest(*(path.read_text(encoding="utf-8") for path in sources))


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
