"""The metadata of a model's application, in its own `user_config`: the Catalog keeps no other state."""

import hashlib
import json
from pathlib import Path
from typing import Any

from deployments.catalog.deployment_options import options
from deployments.catalog.replica_code import code_version
from deployments.config.model_config import ModelConfig

METADATA_KEY = "roster"
"""The key in a deployment's `user_config`: it marks an application as a model, and holds the metadata."""


def read_metadata(app: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of a running application, from Serve's details; empty if it is no model."""
    for deployment in app["deployments"].values():
        user_config = deployment["deployment_config"].get("user_config")
        if isinstance(user_config, dict) and isinstance(user_config.get(METADATA_KEY), dict):
            return dict(user_config[METADATA_KEY])
    return {}


def is_external(app: dict[str, Any]) -> bool:
    """Return whether an application was declared by hand instead of by a folder."""
    return bool(app["deployments"]) and not read_metadata(app).get("folder")


def fingerprint(config: ModelConfig, folder: Path | None, files: str) -> str:
    """Return a digest that changes whenever the application must be deployed again, even only to scale."""
    code = code_version(config.module.__module__)
    return digest(code, config.model_dump(), options(config.deployment), str(folder), files)


def new_metadata(config: ModelConfig, folder: Path | None, files: str) -> dict[str, Any]:
    """Return what to write into the `user_config` of an application that is built from `config`."""
    checkpoint = config.checkpoint(folder)
    return {
        "module_id": config.module_id,
        "model": checkpoint.name,
        "revision": checkpoint.revision,
        "folder": str(folder) if folder else None,
        "fingerprint": fingerprint(config, folder, files),
    }


def digest(*parts: Any) -> str:
    """Return a short digest of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
