"""The card of a model, from its folder and from Ray Serve's details of its application."""

import re
import time
from collections.abc import Mapping
from typing import Any

from ray.serve.schema import ApplicationStatus, DeploymentStatusTrigger, ReplicaState

from deployments.card import Card, Description, Replicas, State
from deployments.catalog.app_metadata import read_metadata
from deployments.catalog.deployment_options import RUNTIME_ENV
from deployments.catalog.model_folders import ModelFolder
from deployments.catalog.module_change import is_served_by_previous, served_facts
from deployments.catalog.serve_messages import reason_of
from deployments.cluster.nodes import NodeResources
from deployments.task import MODULES

PATH = re.compile(r"(?<![:/\w])(?:/[\w.@+~-]+){3,}")
UPDATING = (ApplicationStatus.DEPLOYING, ApplicationStatus.DEPLOY_FAILED)
ASLEEP = "asleep: no replica runs, and the next request starts one"
REFUSED = "the current content of its folder is refused, and the last good version serves: "
SCHEDULING_S = 30.0
"""The time that Ray is given to place a replica, start its worker and prepare its runtime environment.

Serve reports a replica that needs longer, after as many seconds: `SLOW_STARTUP_WARNING_S` in
ray/serve/_private/deployment_state.py.
"""


def refused_card(card: Card, problem: str) -> Card:
    """Return the card of a model whose folder has been edited and cannot be served.

    While a replica of the version before the edit serves requests, the model is ready.
    """
    if card.state != "ready":
        return invalid_card(card.id, problem)
    return card.model_copy(update={"reason": redact_paths(REFUSED + problem)})


def invalid_card(id: str, reason: str) -> Card:
    """Return the card of a folder that cannot be served."""
    return Card(id=id, state="unavailable", reason=redact_paths(reason))


def pending_card(folder: ModelFolder) -> Card:
    """Return the card of a folder that is not deployed yet."""
    assert folder.config is not None
    checkpoint = folder.config.checkpoint(folder.path)
    facts = {"module_id": folder.config.module_id, "model": checkpoint.name, "revision": checkpoint.revision}
    return Card(id=folder.id, state="loading", **_facts({**facts, "folder": str(folder.path)}))


def deployed_card(
    id: str, app: dict[str, Any], description: Description | None, nodes: NodeResources, phase: str = ""
) -> Card:
    """Return the card of an application, in any state. `app` is its part of Serve's details.

    `phase`: what its starting replica does.
    """
    deployment = _only(app)
    replicas = Replicas(running=count_running(app), wanted=deployment["target_num_replicas"])
    # A model with a description has started since it failed.
    before = "" if description else failed_before(app)
    state, reason = _state(app, replicas, before, _lacking(app, nodes), nodes.may_grow)
    reason = phase if state == "loading" and phase else reason
    return Card(
        id=id,
        state=state,
        reason=redact_paths(reason),
        replicas=replicas,
        num_gpus=deployment["required_resources"].get("GPU", 0.0),
        max_ongoing_requests=deployment["deployment_config"]["max_ongoing_requests"],
        max_queued_requests=deployment["deployment_config"]["max_queued_requests"],
        description=description,
        **_facts(served_facts(app)),
    )


def successor_card(app: dict[str, Any], card: Card) -> Card | None:
    """Return the card that holds once the new module of an application runs; None if no module changes."""
    new = {**_facts(read_metadata(app)), "reason": ""}
    return card.model_copy(update=new) if is_served_by_previous(app) else None


def count_running(app: dict[str, Any]) -> int:
    """Count the replicas of an application that serve requests now."""
    return len(_replicas(app, ReplicaState.RUNNING))


def starting_replicas(app: dict[str, Any]) -> set[str]:
    """Return the ids of the replicas of an application that are starting on a node."""
    starting = _replicas(app, ReplicaState.STARTING)
    return {replica["replica_id"] for replica in starting if replica.get("node_id")}


def is_starting(app: dict[str, Any]) -> bool:
    """Return whether a replica of an application is starting."""
    return bool(_replicas(app, ReplicaState.STARTING))


def replicas_on_warm_workers(apps: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Return the running replicas that can have been warm workers, with the ids of their nodes."""
    return {
        replica["replica_id"]: replica["node_id"]
        for app in apps.values()
        if _runtime_env(_only(app)) == RUNTIME_ENV
        for replica in _replicas(app, ReplicaState.RUNNING)
    }


def _runtime_env(deployment: dict[str, Any]) -> Any:
    return (deployment["deployment_config"].get("ray_actor_options") or {}).get("runtime_env")


def has_failed(app: dict[str, Any]) -> bool:
    """Return whether the last deployment did not start, and Serve may have given up on it."""
    trigger = _only(app)["status_trigger"]
    failed = trigger == DeploymentStatusTrigger.REPLICA_STARTUP_FAILED
    return bool(failed or app["status"] == ApplicationStatus.DEPLOY_FAILED)


def failed_before(app: dict[str, Any]) -> str:
    """Return why an application that is retried failed before; empty for any other."""
    failed = read_metadata(app).get("failed") if app["status"] == ApplicationStatus.DEPLOYING else None
    return failed["reason"] if failed else ""


def waits_for_node(app: dict[str, Any], nodes: NodeResources) -> bool:
    """Return whether an autoscaler has to add a node before a replica can start."""
    return nodes.may_grow and bool(_lacking(app, nodes))


def rollout_blocked(app: dict[str, Any], nodes: NodeResources) -> bool:
    """Return whether a rolling update waits for resources that the old replica holds.

    A replica that fits no node and a model that has failed before do not count: their old replica stays.
    """
    deployment = _only(app)
    if failed_before(app) or (_lacking(app, nodes) and not nodes.may_grow):
        return False
    surges = deployment["deployment_config"]["max_surge_percent"] > 0
    rolls = app["status"] == ApplicationStatus.DEPLOYING and count_running(app) > 0
    return bool(rolls and surges and _is_unplaced(app))


def _is_unplaced(app: dict[str, Any]) -> bool:
    """Return whether a replica has waited longer than `SCHEDULING_S` for a node with free resources."""
    waiting = [one for one in _replicas(app, ReplicaState.STARTING) if one.get("node_id") is None]
    return any(time.time() - replica["start_time_s"] > SCHEDULING_S for replica in waiting)


def _replicas(app: dict[str, Any], state: ReplicaState) -> list[dict[str, Any]]:
    return [replica for replica in _only(app)["replicas"] if replica["state"] == state]


def _only(app: dict[str, Any]) -> dict[str, Any]:
    """Return the deployment of a model's application; there is exactly one."""
    deployment: dict[str, Any] = next(iter(app["deployments"].values()))
    return deployment


def _state(
    app: dict[str, Any], replicas: Replicas, before: str, lacking: str, may_grow: bool
) -> tuple[State, str]:
    reason = lacking or before or reason_of(_only(app)["message"])
    if replicas.running and reason and has_failed(app) and app["status"] in UPDATING:
        return "ready", REFUSED + reason
    if replicas.running:
        return "ready", reason
    if app["status"] == ApplicationStatus.RUNNING and not replicas.wanted:
        return "ready", reason or ASLEEP
    if app["status"] == ApplicationStatus.DELETING or before or has_failed(app):
        return "unavailable", reason or app["message"]
    return ("unavailable" if lacking and not may_grow else "loading"), reason


def _lacking(app: dict[str, Any], nodes: NodeResources) -> str:
    for resource, amount in _only(app)["required_resources"].items():
        largest = nodes.largest.get(resource, 0.0)
        if amount > largest:
            return f"a replica wants {amount:g} {resource}, and no node has more than {largest:g}"
    return ""


def _facts(mark: dict[str, Any]) -> dict[str, Any]:
    module = MODULES.get(mark["module_id"])
    return {
        "task": module.task.name if module else None,
        "module_id": mark["module_id"],
        "model": redact_paths(mark["model"]),
        "revision": mark["revision"],
        "folder": mark["folder"] and redact_paths(mark["folder"]),
    }


def redact_paths(text: str) -> str:
    """Shorten file paths to their last two parts: clients should not see where the server keeps its files."""
    return PATH.sub(lambda path: "/".join(path[0].split("/")[-2:]), text)
