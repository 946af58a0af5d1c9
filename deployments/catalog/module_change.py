"""A model that changes its module: the replicas of the module before serve until one of the new module runs.

Serve's details give replicas no version. The metadata of an application therefore names the replicas that ran
when it was deployed with another module, and what they serve.
"""

from typing import Any

from ray.serve.schema import ReplicaState

from deployments.catalog.app_metadata import read_metadata

FACTS = ("module_id", "model", "revision", "folder")


def previous_module(app: dict[str, Any] | None, module_id: str) -> dict[str, Any] | None:
    """Return what serves an application now, for its metadata, if it is deployed with another module."""
    if app is None or not (running := _running(app)):
        return None
    facts, before = served_facts(app), read_metadata(app).get("previous")
    if facts["module_id"] == module_id:
        return None
    replicas = before["replicas"] if is_served_by_previous(app) and before else sorted(running)
    return {**{key: facts[key] for key in FACTS}, "replicas": replicas}


def served_facts(app: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of what an application serves now: of the module before, as long as that serves."""
    metadata = read_metadata(app)
    return {**metadata, **metadata["previous"]} if is_served_by_previous(app) else metadata


def is_served_by_previous(app: dict[str, Any]) -> bool:
    """Return whether all running replicas have the module before a change."""
    previous, running = read_metadata(app).get("previous"), _running(app)
    return bool(previous and running and running <= {*previous["replicas"]})


def _running(app: dict[str, Any]) -> set[str]:
    return {
        replica["replica_id"]
        for deployment in app["deployments"].values()
        for replica in deployment["replicas"]
        if replica["state"] == ReplicaState.RUNNING
    }
