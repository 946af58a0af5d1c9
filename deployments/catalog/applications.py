"""Builds the Ray Serve application of a model: one deployment, no route, and a version that Roster sets."""

from pathlib import Path
from typing import Any

from ray import serve

from deployments.catalog.app_metadata import METADATA_KEY, digest, new_metadata
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
    previous: dict[str, Any] | None = None,
) -> serve.Application:
    """Build the application that serves `config`; `files` is a signature of the files in `folder`.

    Without `surge` an old replica stops before a new one starts: slower, but it needs no second GPU.
    An edit that only scales keeps the version: Serve changes the application without loading again.
    A change of the code that a replica imports changes the version, and the replicas roll one by one.
    `failed` counts earlier attempts: Serve starts a failed application again only if its options differ.
    `previous` is what serves meanwhile, if that has another module.
    """
    arguments = config.model_dump(exclude={"deployment", "batching"}), str(folder) if folder else None
    batching = config.batching.model_dump()  # also an argument: the replica tunes batches when it loads
    deployment = serve.deployment(Replica).options(
        **{**options(config.deployment), **({} if surge else {"max_surge_percent": 0})},
        name="model",
        user_config={
            METADATA_KEY: {**new_metadata(config, folder, files), "failed": failed, "previous": previous},
            "batching": batching,
        },
    )
    version = digest(code_version(config.module.__module__), arguments, files)
    return pin_version(deployment, version).bind(*arguments, batching)
