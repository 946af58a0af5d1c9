"""What should be served (the models folder), what is (Ray Serve), and the way from one to the other.

The Catalog compares and asks; placing, scaling, healing and rolling stay Serve's. It keeps nothing that it
cannot read again: what an application was made from stands in the application's own `user_config`.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.exceptions import RayServeException

from deployments.card import Card, Description
from deployments.catalog.applications import RUNTIME_ENV, bind, is_anothers, mark
from deployments.catalog.model_folders import UNLOADED, Folder, Folders, taken
from deployments.catalog.model_status import (
    broken_card,
    count_running,
    from_spares,
    lacks_room_to_surge,
    running_card,
    waiting_card,
    waits_for_node,
)
from deployments.catalog.retries import Retries
from deployments.catalog.serve_state import Observed
from deployments.cluster.ray_private import Shares, delete, shares
from deployments.cluster.warm_workers import Spares
from deployments.errors import Forbidden, ModelNotFound
from deployments.telemetry.request_stats import Figures, Reading, put_together

log = logging.getLogger("ray.serve")

POLL_S, LONGEST_POLL_S = 0.5, 3.0
LOOKING_SHARE = 1 / 10  # of the time: with hundreds of models a look costs Serve's controller and us a lot
MISSING_S = 1.5  # a folder that is being replaced is away for a moment
NEW_NODE_S = 600.0  # what an autoscaler is given to add one, before an old replica makes room
WATCH_S = 10.0
REPORT_S = 5.0  # a Router that has said nothing for so long is gone
NOT_LOOKED_YET = ""


@dataclass(frozen=True)
class Snapshot:
    """Every model's card at one moment. `settled`: all that was there at start is ready or unavailable."""

    version: str = NOT_LOOKED_YET
    settled: bool = False
    cards: dict[str, Card] = field(default_factory=dict)


class Catalog:
    """Follows a models folder. Built by Ray Serve, as one replica; Routers call `watch`.

    `control`: whether callers may unload models and load them again. `spares`: how many workers are kept
    ready, per node, for replicas to come.
    """

    def __init__(self, models: str, control: bool = False, spares: int = 0) -> None:
        self.folders = Folders(Path(models))
        self._control = control
        self._spares = Spares(spares, RUNTIME_ENV)
        self.snapshot = Snapshot()
        self._changed = asyncio.Event()
        self._look_s = 0.0
        self._observed = Observed()
        self._retries = Retries()
        self._at_start: set[str] | None = None
        self._missing: dict[str, float] = {}
        self._cramped: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        self._descriptions: dict[str, Description] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._reports: dict[str, tuple[float, dict[str, Reading]]] = {}
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def watch(self, known: str) -> Snapshot:
        """The snapshot as soon as it is another than version `known`, or after ten seconds as it is."""
        if self.snapshot.version in (known, NOT_LOOKED_YET):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), WATCH_S)
        return self.snapshot

    async def report(self, router: str, readings: dict[str, Reading]) -> None:
        """Take what a Router has seen of each model; Routers call this once a second."""
        self._reports[router] = time.monotonic(), readings

    async def figures(self) -> list[Figures]:
        """Each model's figures, of all Routers that are there."""
        recent = time.monotonic() - REPORT_S
        self._reports = {router: told for router, told in self._reports.items() if told[0] > recent}
        readings = [told for _, told in self._reports.values()]
        return [put_together(id, [one[id] for one in readings if id in one]) for id in self.snapshot.cards]

    async def load(self, id: str) -> None:
        """Serve a model again that was unloaded. Raises `Forbidden`, `ModelNotFound`."""
        await asyncio.to_thread(self._marker(id).unlink, missing_ok=True)

    async def unload(self, id: str) -> None:
        """Serve a model no longer until it is loaded; its folder says so. Raises as `load`."""
        await asyncio.to_thread(self._marker(id).touch)

    def _marker(self, id: str) -> Path:
        if not self._control:
            raise Forbidden("models are loaded and unloaded by the operator alone (`repository_control`)")
        folder = self.folders.known().get(id)
        if folder is None:
            raise ModelNotFound(f"no model of this cluster's folder is named {id!r}")
        return folder.path / UNLOADED

    async def check_health(self) -> None:
        """Raise when the loop that follows the folder has ended."""
        if self._task.done():
            raise RuntimeError("the catalog no longer follows its folder")

    async def _follow(self) -> None:
        await asyncio.to_thread(self.folders.scan)  # what two looks agree on is no longer being written
        while True:
            try:
                await self._step()
            except Exception:
                log.exception("the catalog could not compare folder and cluster; it tries again")
            await asyncio.sleep(min(max(POLL_S, self._look_s / LOOKING_SHARE), LONGEST_POLL_S))

    async def _step(self) -> None:
        begin = time.monotonic()
        asked = {id for id, card in self.snapshot.cards.items() if card.state != "unavailable"}
        folders = await asyncio.to_thread(self.folders.scan)
        running = await self._observed.applications()
        self._look_s = time.monotonic() - begin
        apps = {id: app for id, app in running.items() if mark(app)}
        folders |= taken(folders, {id for id, app in running.items() if is_anothers(app)})
        self._note_missing(folders, apps)
        nodes = await asyncio.to_thread(shares)
        if self.snapshot.version == NOT_LOOKED_YET:  # Routers wait, and to deploy hundreds takes long
            self._publish(folders, apps, nodes)
        await self._deploy(folders, apps, nodes)
        self._describe(apps)
        self._publish(folders, apps, nodes)
        if self.snapshot.settled:  # at start they would take the time of the models themselves
            await self._spares.refill(from_spares(apps))
        # Since the last step or before, Routers have been told to send nothing to them.
        if gone := [id for id in self._gone(MISSING_S) - asked if apps[id]["status"] != "DELETING"]:
            self._observed.expire()
            await asyncio.to_thread(delete, gone)

    async def _deploy(self, folders: dict[str, Folder], apps: dict[str, Any], nodes: Shares) -> None:
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

    def _is_due(self, folder: Folder, app: dict[str, Any] | None) -> bool:
        if folder.config is None or (app and app["status"] == "DELETING"):
            return False
        if folder.fingerprint in self._refused:
            return False
        return app is None or mark(app)["fingerprint"] != folder.fingerprint

    async def _run(self, due: list[Folder], *, surge: bool = True) -> None:
        """Ask Serve for these; what it refuses is remembered, what fails otherwise is due again next time."""
        try:
            if due:
                self._observed.expire()
                await asyncio.to_thread(_run, due, surge)
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

    def _gone(self, seconds: float) -> set[str]:
        return {id for id, since in self._missing.items() if time.monotonic() - since > seconds}

    def _cards(
        self, folders: dict[str, Folder], apps: dict[str, Any], nodes: Shares
    ) -> Iterable[tuple[str, Card]]:
        for id in sorted(folders.keys() | (apps.keys() - self._gone(MISSING_S))):
            folder, app = folders.get(id), apps.get(id)
            problem = folder and (folder.problem or self._refused.get(folder.fingerprint))
            if app and (not problem or is_anothers(app)):
                card = running_card(id, app, self._descriptions.get(mark(app)["fingerprint"]), nodes)
                yield id, card.model_copy(update={"reason": problem}) if problem else card
            elif problem:
                yield id, broken_card(id, problem)
            elif folder:
                yield id, waiting_card(folder)

    def _describe(self, apps: dict[str, Any]) -> None:
        """Ask each model once what it is; not while it rolls, when one of the version before could answer."""
        known = {mark(app)["fingerprint"] for app in apps.values()}
        self._descriptions = {key: told for key, told in self._descriptions.items() if key in known}
        for id, app in apps.items():
            key = mark(app)["fingerprint"]
            asked = key in self._descriptions or key in self._asking
            if not asked and app["status"] == "RUNNING" and count_running(app):
                self._asking[key] = asyncio.get_running_loop().create_task(self._ask(id, key))

    async def _ask(self, id: str, key: str) -> None:
        try:
            handle = await asyncio.to_thread(serve.get_app_handle, id)
            self._descriptions[key] = await asyncio.wait_for(handle.describe.remote(), WATCH_S)
        except Exception as error:
            log.warning("model %s does not describe itself yet: %s", id, type(error).__name__)
            await asyncio.sleep(WATCH_S)
        finally:
            del self._asking[key]

    def _publish(self, folders: dict[str, Folder], apps: dict[str, Any], nodes: Shares) -> None:
        cards = dict(self._cards(folders, apps, nodes))
        if self._at_start is None:
            self._at_start = set(cards)
        waiting = {id for id, app in apps.items() if waits_for_node(app, nodes)}
        loading = {id for id, card in cards.items() if card.state == "loading"} - waiting
        settled = self.snapshot.settled or not (self._at_start & loading)
        if self.snapshot == Snapshot(self.snapshot.version or "first", settled, cards):
            return
        self.snapshot = Snapshot(uuid.uuid4().hex, settled, cards)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _run(folders: list[Folder], surge: bool) -> None:
    targets = [
        serve.RunTarget(
            bind(folder.config, folder.path, folder.files, surge=surge, failed=folder.failed),
            folder.id,
            route_prefix=None,
        )
        for folder in folders
        if folder.config
    ]
    serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def _since(before: dict[str, float], ids: Iterable[str]) -> dict[str, float]:
    """Since when each of `ids` is what it is now; `before` tells of those that were so already."""
    now = time.monotonic()
    return {id: before.get(id, now) for id in ids}


def _changes_module(folder: Folder, app: dict[str, Any] | None) -> bool:
    return app is not None and folder.config is not None and mark(app)["module_id"] != folder.config.module_id
