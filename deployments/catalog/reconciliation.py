"""Compares the models folder with Ray Serve's applications, and deploys and deletes what differs.

Ray Serve places, scales, heals and rolls the applications.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus

from deployments.catalog.app_metadata import is_external, read_metadata
from deployments.catalog.model_folders import ModelFolder, ModelFolderWatcher, name_conflicts
from deployments.catalog.model_status import rollout_blocked
from deployments.catalog.module_change import previous_module
from deployments.catalog.retries import Retries
from deployments.catalog.serve_client import ServeClient
from deployments.catalog.serve_state import ServeStateCache
from deployments.cluster.nodes import NodeResources

MISSING_S = 1.5  # a folder that is being replaced is missing for a moment
NEW_NODE_S = 600.0  # the time for an autoscaler to add a node, before an old replica makes room


class Observation(NamedTuple):
    """The folders, the applications that are models, and the nodes, at one moment.

    `phases`: what starting replicas do, by application.
    """

    folders: dict[str, ModelFolder]
    apps: dict[str, Any]
    nodes: NodeResources
    phases: dict[str, str]


class Reconciliation:
    """Deploys what is new or changed in a models folder, and deletes what has left it."""

    def __init__(self, root: Path, serve: ServeClient) -> None:
        self.folders = ModelFolderWatcher(root)
        self.poll_s = 0.0
        self._serve = serve
        self._serve_state = ServeStateCache(serve)
        self._retries = Retries()
        self._missing: dict[str, float] = {}
        self._blocked_rollouts: dict[str, float] = {}
        self._refused: dict[str, str] = {}

    async def observe(self) -> Observation:
        """Read the folders, Serve's applications and the nodes."""
        begin = time.monotonic()
        folders = await asyncio.to_thread(self.folders.scan)
        running = await self._serve_state.applications()
        self.poll_s = time.monotonic() - begin
        folders |= name_conflicts(folders, {id for id, app in running.items() if is_external(app)})
        apps = {id: app for id, app in running.items() if read_metadata(app)}
        self._note_missing(folders, apps)
        return Observation(folders, apps, await self._serve.nodes(), await self._serve.phases(apps))

    async def deploy(self, observation: Observation) -> None:
        """Deploy new and changed models; where a rolling update has no room, stop the old replica first."""
        folders, apps, nodes, _ = observation
        due = [folder for id, folder in folders.items() if self._is_due(folder, apps.get(id))]
        due += self._retries.due(folders, apps)
        blocked = {id for id in apps.keys() & folders.keys() if rollout_blocked(apps[id], nodes)}
        self._blocked_rollouts = _since(self._blocked_rollouts, blocked)
        patience = NEW_NODE_S if nodes.may_grow else -1.0
        stuck = [
            folders[id] for id, since in self._blocked_rollouts.items() if time.monotonic() - since > patience
        ]
        await self._deploy([_with_previous(folder, apps) for folder in due])
        await self._deploy([_with_previous(folder, apps) for folder in stuck], surge=False)

    async def delete(self, apps: dict[str, Any], offered: set[str]) -> None:
        """Delete the applications whose folders are gone and that are not `offered` to Routers any more."""
        if gone := [id for id in self.gone() - offered if apps[id]["status"] != ApplicationStatus.DELETING]:
            self._serve_state.expire()
            await self._serve.delete(gone)

    def gone(self) -> set[str]:
        """Return the ids of the applications whose folders are gone."""
        return {id for id, since in self._missing.items() if time.monotonic() - since > MISSING_S}

    def problem(self, folder: ModelFolder) -> str:
        """Return why a folder is not served; empty if nothing is wrong with it."""
        return folder.problem or self._refused.get(folder.fingerprint, "")

    def _is_due(self, folder: ModelFolder, app: dict[str, Any] | None) -> bool:
        if folder.config is None or (app and app["status"] == ApplicationStatus.DELETING):
            return False
        if folder.fingerprint in self._refused:
            return False
        return app is None or read_metadata(app)["fingerprint"] != folder.fingerprint

    async def _deploy(self, due: list[ModelFolder], *, surge: bool = True) -> None:
        """Deploy these. A model that Serve refuses is not tried again; after any other failure all are."""
        try:
            if due:
                self._serve_state.expire()
                await self._serve.deploy(due, surge)
        except (ValueError, TypeError, ArithmeticError, RayServeException) as error:
            if len(due) == 1:
                self._refused[due[0].fingerprint] = f"{due[0].id}/config.yml: `deployment`: {error}"
                return
            for folder in due:
                await self._deploy([folder], surge=surge)

    def _note_missing(self, folders: dict[str, ModelFolder], apps: dict[str, Any]) -> None:
        ours = {id for id, app in apps.items() if not is_external(app)} if self.folders.is_there else set()
        there = {id for id, folder in folders.items() if not folder.unloaded}
        self._missing = _since(self._missing, ours - there)


def _since(before: dict[str, float], ids: Iterable[str]) -> dict[str, float]:
    """Return the time since when each of `ids` is in this state, given those that were `before`."""
    now = time.monotonic()
    return {id: before.get(id, now) for id in ids}


def _with_previous(folder: ModelFolder, apps: dict[str, Any]) -> ModelFolder:
    module_id = folder.config.module_id if folder.config else ""
    return replace(folder, previous=previous_module(apps.get(folder.id), module_id))
