"""One step from what the models folder asks for to what Ray Serve runs.

The Catalog compares and asks; placing, scaling, healing and rolling stay Serve's.
"""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus

from deployments.catalog.app_metadata import is_anothers, mark
from deployments.catalog.model_folders import Folder, Folders, taken
from deployments.catalog.model_status import lacks_room_to_surge
from deployments.catalog.retries import Retries
from deployments.catalog.serve_client import ServeClient
from deployments.catalog.serve_state import Observed
from deployments.cluster.nodes import NodeResources

MISSING_S = 1.5  # a folder that is being replaced is away for a moment
NEW_NODE_S = 600.0  # what an autoscaler is given to add one, before an old replica makes room


class Observation(NamedTuple):
    """The folders, the applications that are models, and the nodes, at one moment."""

    folders: dict[str, Folder]
    apps: dict[str, Any]
    nodes: NodeResources


class Reconciliation:
    """Deploys what is new or changed in a models folder, and deletes what has left it."""

    def __init__(self, root: Path, serve: ServeClient) -> None:
        self.folders = Folders(root)
        self.look_s = 0.0
        self._serve = serve
        self._observed = Observed(serve)
        self._retries = Retries()
        self._missing: dict[str, float] = {}
        self._cramped: dict[str, float] = {}
        self._refused: dict[str, str] = {}

    async def observe(self) -> Observation:
        """Read the folders, Serve's applications and the nodes."""
        begin = time.monotonic()
        folders = await asyncio.to_thread(self.folders.scan)
        running = await self._observed.applications()
        self.look_s = time.monotonic() - begin
        folders |= taken(folders, {id for id, app in running.items() if is_anothers(app)})
        apps = {id: app for id, app in running.items() if mark(app)}
        self._note_missing(folders, apps)
        return Observation(folders, apps, await self._serve.nodes())

    async def deploy(self, observation: Observation) -> None:
        """Deploy what is due; where a rolling update has no room, stop the old replica first."""
        folders, apps, nodes = observation
        due = [folder for id, folder in folders.items() if self._is_due(folder, apps.get(id))]
        due += self._retries.due(folders, apps)
        # A model that becomes another task's has no old replica that could go on answering.
        other = [folder for folder in due if _changes_module(folder, apps.get(folder.id))]
        cramped = {id for id in apps.keys() & folders.keys() if lacks_room_to_surge(apps[id], nodes)}
        self._cramped = _since(self._cramped, cramped)
        patience = NEW_NODE_S if nodes.may_grow else -1.0
        stuck = [folders[id] for id, since in self._cramped.items() if time.monotonic() - since > patience]
        await self._run([folder for folder in due if folder not in other])
        await self._run([*other, *stuck], surge=False)

    async def delete(self, apps: dict[str, Any], offered: set[str]) -> None:
        """Delete the applications whose folders are gone and that are not `offered` to Routers any more."""
        if gone := [id for id in self.gone() - offered if apps[id]["status"] != ApplicationStatus.DELETING]:
            self._observed.expire()
            await self._serve.delete(gone)

    def gone(self) -> set[str]:
        """Return the ids of the applications whose folders are gone."""
        return {id for id, since in self._missing.items() if time.monotonic() - since > MISSING_S}

    def problem(self, folder: Folder) -> str:
        """Return why a folder is not served; empty if nothing is wrong with it."""
        return folder.problem or self._refused.get(folder.fingerprint, "")

    def _is_due(self, folder: Folder, app: dict[str, Any] | None) -> bool:
        if folder.config is None or (app and app["status"] == ApplicationStatus.DELETING):
            return False
        if folder.fingerprint in self._refused:
            return False
        return app is None or mark(app)["fingerprint"] != folder.fingerprint

    async def _run(self, due: list[Folder], *, surge: bool = True) -> None:
        """Ask Serve for these; what it refuses is remembered, what fails otherwise is due again next time."""
        try:
            if due:
                self._observed.expire()
                await self._serve.deploy(due, surge)
        except (ValueError, TypeError, ArithmeticError, RayServeException) as error:
            if len(due) == 1:
                self._refused[due[0].fingerprint] = f"{due[0].id}/config.yml: `deployment`: {error}"
                return
            for folder in due:
                await self._run([folder], surge=surge)

    def _note_missing(self, folders: dict[str, Folder], apps: dict[str, Any]) -> None:
        ours = {id for id, app in apps.items() if not is_anothers(app)} if self.folders.is_there else set()
        there = {id for id, folder in folders.items() if not folder.unloaded}
        self._missing = _since(self._missing, ours - there)


def _since(before: dict[str, float], ids: Iterable[str]) -> dict[str, float]:
    """Since when each of `ids` is what it is now; `before` tells of those that were so already."""
    now = time.monotonic()
    return {id: before.get(id, now) for id in ids}


def _changes_module(folder: Folder, app: dict[str, Any] | None) -> bool:
    return app is not None and folder.config is not None and mark(app)["module_id"] != folder.config.module_id
