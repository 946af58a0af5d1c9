"""The Catalog: it follows the models folder and publishes a snapshot of all models to the Routers.

It keeps nothing that it cannot read again: the metadata of an application is in its own `user_config`.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from deployments.card import NOT_LOOKED_YET, Card, Snapshot
from deployments.catalog.app_metadata import is_external
from deployments.catalog.deployment_options import RUNTIME_ENV
from deployments.catalog.descriptions import Descriptions
from deployments.catalog.model_folders import UNLOADED
from deployments.catalog.model_status import (
    REFUSED,
    deployed_card,
    invalid_card,
    pending_card,
    refused_card,
    replicas_on_warm_workers,
    successor_card,
    waits_for_node,
)
from deployments.catalog.reconciliation import Observation, Reconciliation
from deployments.catalog.serve_client import ServeClient
from deployments.cluster.warm_workers import WarmWorkerPool
from deployments.errors import Forbidden, ModelNotFound
from deployments.telemetry.request_stats import ModelCounters, ModelStats, aggregate

log = logging.getLogger("ray.serve")

POLL_S, LONGEST_POLL_S = 0.5, 3.0
MAX_POLL_DUTY = 1 / 10  # of the time: with hundreds of models a reading costs Serve's controller a lot
WATCH_S = 10.0
REPORT_S = 5.0  # a Router without a report for so long is gone


class Catalog:
    """Follows a models folder. Ray Serve runs one replica of it; Routers call `watch`.

    `control`: whether callers may unload models and load them again. `warm_workers`: how many workers per
    node to keep ready for new replicas.
    """

    def __init__(
        self, models: str, control: bool = False, warm_workers: int = 0, serve: ServeClient | None = None
    ) -> None:
        self.snapshot = Snapshot()
        self._reconciliation = Reconciliation(Path(models), serve or ServeClient())
        self._descriptions = Descriptions()
        self._control = control
        self._warm_workers = WarmWorkerPool(warm_workers, RUNTIME_ENV)
        self._changed = asyncio.Event()
        self._at_start: set[str] | None = None
        self._reports: dict[str, tuple[float, dict[str, ModelCounters]]] = {}
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def watch(self, known: str) -> Snapshot:
        """Return the snapshot once its version is not `known`, or after ten seconds in any case."""
        if self.snapshot.version in (known, NOT_LOOKED_YET):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), WATCH_S)
        return self.snapshot

    async def report(self, router: str, counters: dict[str, ModelCounters]) -> None:
        """Store a Router's counts of each model's requests; each Router calls this once a second."""
        self._reports[router] = time.monotonic(), counters

    async def stats(self) -> list[ModelStats]:
        """Return each model's statistics, added up over all Routers."""
        recent = time.monotonic() - REPORT_S
        self._reports = {router: report for router, report in self._reports.items() if report[0] > recent}
        reports = [report for _, report in self._reports.values()]
        return [
            aggregate(id, [report[id] for report in reports if id in report]) for id in self.snapshot.cards
        ]

    async def load(self, id: str) -> None:
        """Serve an unloaded model again. Raises `Forbidden`, `ModelNotFound`."""
        await asyncio.to_thread(self._marker(id).unlink, missing_ok=True)

    async def unload(self, id: str) -> None:
        """Stop serving a model until `load`; a marker file in its folder keeps this. Raises as `load`."""
        await asyncio.to_thread(self._marker(id).touch)

    def _marker(self, id: str) -> Path:
        if not self._control:
            raise Forbidden("callers may not load and unload models here (`allow_model_control` is false)")
        folder = self._reconciliation.folders.known().get(id)
        if folder is None:
            raise ModelNotFound(f"no model of this cluster's folder is named {id!r}")
        return folder.path / UNLOADED

    async def check_health(self) -> None:
        """Raise when the loop that follows the folder has ended."""
        if self._task.done():
            raise RuntimeError("the catalog no longer follows its folder")

    async def _follow(self) -> None:
        # A folder counts once two scans agree: it is no longer being written.
        await asyncio.to_thread(self._reconciliation.folders.scan)
        while True:
            try:
                await self._reconcile()
            except Exception:
                log.exception(
                    "the Catalog failed to compare the models folder with the cluster; it tries again"
                )
            pause = self._reconciliation.poll_s / MAX_POLL_DUTY
            await asyncio.sleep(min(max(POLL_S, pause), LONGEST_POLL_S))

    async def _reconcile(self) -> None:
        offered = {id for id, card in self.snapshot.cards.items() if card.state != "unavailable"}
        observation = await self._reconciliation.observe()
        if self.snapshot.version == NOT_LOOKED_YET:  # Routers wait, and deploying hundreds takes long
            self._publish(observation)
        await self._reconciliation.deploy(observation)
        self._descriptions.update(observation.apps)
        self._publish(observation)
        if self.snapshot.startup_complete:  # at start they would slow down the models themselves
            await self._warm_workers.refill(replicas_on_warm_workers(observation.apps))
        # Routers have had a snapshot without these models since the last step or longer.
        await self._reconciliation.delete(observation.apps, offered)

    def _publish(self, observation: Observation) -> None:
        cards = dict(self._cards(observation))
        if self._at_start is None:
            self._at_start = set(cards)
        waiting = {id for id, app in observation.apps.items() if waits_for_node(app, observation.nodes)}
        loading = {id for id, card in cards.items() if card.state == "loading"} - waiting
        settled = self.snapshot.startup_complete or not (self._at_start & loading)
        successors = {
            id: successor
            for id, card in cards.items()
            if (app := observation.apps.get(id)) and (successor := successor_card(app, card))
        }
        if self.snapshot == Snapshot(self.snapshot.version or "first", settled, cards, successors):
            return
        self._log_refusals(cards)
        self.snapshot = Snapshot(uuid.uuid4().hex, settled, cards, successors)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _log_refusals(self, cards: dict[str, Card]) -> None:
        for id, card in cards.items():
            before = self.snapshot.cards.get(id)
            if card.reason.startswith(REFUSED) and not (before and before.reason == card.reason):
                log.warning("model %s is ready; %s", id, card.reason)

    def _cards(self, observation: Observation) -> Iterable[tuple[str, Card]]:
        folders, apps, nodes, phases = observation
        for id in sorted(folders.keys() | (apps.keys() - self._reconciliation.gone())):
            folder, app = folders.get(id), apps.get(id)
            problem = folder and self._reconciliation.problem(folder)
            if app and not (folder and folder.unloaded):
                card = deployed_card(id, app, self._descriptions.get(app), nodes, phases.get(id, ""))
                if problem and is_external(app):
                    card = card.model_copy(update={"reason": problem})
                elif problem:
                    card = refused_card(card, problem)
                yield id, card
            elif problem:
                yield id, invalid_card(id, problem)
            elif folder:
                yield id, pending_card(folder)
