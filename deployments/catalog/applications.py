"""A model's configuration as a Ray Serve application: one deployment, no route, a version of our own."""

from pathlib import Path
from typing import Any

from ray import serve

from deployments.catalog.app_metadata import MARK, digest, made_from
from deployments.catalog.deployment_options import options
from deployments.catalog.replica_code import code_version
from deployments.cluster.ray_private.controller import pin_version
from deployments.config.model_config import ModelConfig
from deployments.replica.model_replica import Replica


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
    A change of the code that a replica imports changes the version: its replicas roll one after the other.
    `failed` tells of tries before this one. Serve starts what it has given up only if something is new in it.
    """
    arguments = config.model_dump(exclude={"deployment", "batching"}), str(folder) if folder else None
    batching = config.batching.model_dump()  # an argument as well, for what is tried when the model loads
    deployment = serve.deployment(Replica).options(
        **{**options(config.deployment), **({} if surge else {"max_surge_percent": 0})},
        name="model",
        user_config={MARK: {**made_from(config, folder, files), "failed": failed}, "batching": batching},
    )
    version = digest(code_version(config.module.__module__), arguments, files)
    return pin_version(deployment, version).bind(*arguments, batching)
