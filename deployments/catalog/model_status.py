"""What Ray Serve says of one application, read as a model's card."""

import re
from collections.abc import Mapping
from typing import Any

from deployments.card import Card, Description, Replicas, State
from deployments.catalog.app_metadata import mark
from deployments.catalog.deployment_options import RUNTIME_ENV
from deployments.catalog.model_folders import Folder
from deployments.cluster.nodes import Shares
from deployments.task import MODULES

PATH = re.compile(r"(?<![:/\w])(?:/[\w.@+~-]+){3,}")
EXCEPTION = re.compile(r"^([\w.]+): (.*)$")


def broken_card(id: str, reason: str) -> Card:
    """A folder that nothing can be made of."""
    return Card(id=id, state="unavailable", reason=without_paths(reason))


def waiting_card(folder: Folder) -> Card:
    """A folder that Serve has not been asked for yet."""
    assert folder.config is not None
    checkpoint = folder.config.checkpoint(folder.path)
    facts = {"module_id": folder.config.module_id, "model": checkpoint.name, "revision": checkpoint.revision}
    return Card(id=folder.id, state="loading", **_facts({**facts, "folder": str(folder.path)}))


def running_card(id: str, app: dict[str, Any], description: Description | None, shares: Shares) -> Card:
    """An application that Serve has, in whatever state. `app` is its part of Serve's details."""
    deployment = _only(app)
    replicas = Replicas(running=count_running(app), wanted=deployment["target_num_replicas"])
    # What describes itself has started since it failed.
    before = "" if description else failed_before(app)
    state, reason = _state(app, replicas, before, _lacking(app, shares), shares.may_grow)
    return Card(
        id=id,
        state=state,
        reason=without_paths(reason),
        replicas=replicas,
        num_gpus=deployment["required_resources"].get("GPU", 0.0),
        max_ongoing_requests=deployment["deployment_config"]["max_ongoing_requests"],
        max_queued_requests=deployment["deployment_config"]["max_queued_requests"],
        description=description,
        **_facts(mark(app)),
    )


def count_running(app: dict[str, Any]) -> int:
    """How many replicas of an application answer now."""
    replicas = [replica for deployment in app["deployments"].values() for replica in deployment["replicas"]]
    return sum(replica["state"] == "RUNNING" for replica in replicas)


def is_starting(app: dict[str, Any]) -> bool:
    """Whether a replica of an application is on its way."""
    return any(replica["state"] == "STARTING" for replica in _only(app)["replicas"])


def from_spares(apps: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """The running replicas that a spare worker has become, if there was one: their ids, and their nodes'."""
    return {
        replica["replica_id"]: replica["node_id"]
        for app in apps.values()
        for deployment in app["deployments"].values()
        if _runtime_env(deployment) == RUNTIME_ENV
        for replica in deployment["replicas"]
        if replica["state"] == "RUNNING"
    }


def _runtime_env(deployment: dict[str, Any]) -> Any:
    return (deployment["deployment_config"].get("ray_actor_options") or {}).get("runtime_env")


def has_failed(app: dict[str, Any]) -> bool:
    """Whether what was last deployed did not start, and Serve may have given up on it."""
    return bool(app["status"] == "DEPLOY_FAILED" or _only(app)["status_trigger"] == "REPLICA_STARTUP_FAILED")


def message(app: dict[str, Any]) -> str:
    """What Serve says of an application: how often it has failed, and the traceback."""
    return _only(app)["message"] or str(app["message"])


def failure(app: dict[str, Any]) -> str:
    """Why an application failed when it was last deployed."""
    return last_sentence(message(app))


def failed_before(app: dict[str, Any]) -> str:
    """Why an application that is being tried again failed; empty for any other."""
    failed = mark(app).get("failed") if app["status"] == "DEPLOYING" else None
    return failed["reason"] if failed else ""


def waits_for_node(app: dict[str, Any], shares: Shares) -> bool:
    """Whether an autoscaler has to add a node before a replica can start."""
    return shares.may_grow and bool(_lacking(app, shares))


def lacks_room_to_surge(app: dict[str, Any], shares: Shares) -> bool:
    """Whether a rolling update waits for a second GPU beside the one that the old replica has.

    One that could never be placed does not, nor one that has failed: the old replica stays.
    """
    deployment = _only(app)
    if failed_before(app) or (_lacking(app, shares) and not shares.may_grow):
        return False
    waits = app["status"] == "DEPLOYING" and "to be scheduled" in deployment["message"]
    return waits and count_running(app) > 0 and deployment["deployment_config"]["max_surge_percent"] > 0


def last_sentence(message: str) -> str:
    """The sentence at the end of a traceback, without its class's module; a message without one as it is."""
    lines = [line for line in message.strip().splitlines() if line.strip()]
    for line in reversed(lines):
        if match := EXCEPTION.match(line):
            name = match[1].rpartition(".")[2]
            return match[2] if match[1].startswith("deployments.") else f"{name}: {match[2]}"
    return " ".join(lines)


def _only(app: dict[str, Any]) -> dict[str, Any]:
    """A model's application has one deployment."""
    deployment: dict[str, Any] = next(iter(app["deployments"].values()))
    return deployment


def _state(
    app: dict[str, Any], replicas: Replicas, before: str, lacking: str, may_grow: bool
) -> tuple[State, str]:
    reason = lacking or before or last_sentence(_only(app)["message"])
    if replicas.running or (app["status"] == "RUNNING" and not replicas.wanted):
        return "ready", reason
    if app["status"] == "DELETING" or before or has_failed(app):
        return "unavailable", reason or app["message"]
    return ("unavailable" if lacking and not may_grow else "loading"), reason


def _lacking(app: dict[str, Any], shares: Shares) -> str:
    for resource, amount in _only(app)["required_resources"].items():
        largest = shares.largest.get(resource, 0.0)
        if amount > largest:
            return f"a replica wants {amount:g} {resource}, and no node has more than {largest:g}"
    return ""


def _facts(mark: dict[str, Any]) -> dict[str, Any]:
    module = MODULES.get(mark["module_id"])
    return {
        "task": module.task.name if module else None,
        "module_id": mark["module_id"],
        "model": without_paths(mark["model"]),
        "revision": mark["revision"],
        "folder": mark["folder"] and without_paths(mark["folder"]),
    }


def without_paths(text: str) -> str:
    """Where the server keeps its files is nobody's business: of a path, "models/sentiment" will do."""
    return PATH.sub(lambda path: "/".join(path[0].split("/")[-2:]), text)
