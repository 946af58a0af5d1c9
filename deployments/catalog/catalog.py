"""Publishes what is served: the one deployment that follows the models folder and reports to the Routers.

It keeps nothing that it cannot read again: what an application was made from stands in the application's own
`user_config`.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from deployments.card import NOT_LOOKED_YET, Card, Snapshot
from deployments.catalog.app_metadata import is_anothers
from deployments.catalog.deployment_options import RUNTIME_ENV
from deployments.catalog.descriptions import Descriptions
from deployments.catalog.model_folders import UNLOADED
from deployments.catalog.model_status import (
    broken_card,
    from_spares,
    running_card,
    waiting_card,
    waits_for_node,
)
from deployments.catalog.reconciliation import Observation, Reconciliation
from deployments.catalog.serve_client import ServeClient
from deployments.cluster.warm_workers import Spares
from deployments.errors import Forbidden, ModelNotFound
from deployments.telemetry.request_stats import ModelStats, Reading, put_together

log = logging.getLogger("ray.serve")

POLL_S, LONGEST_POLL_S = 0.5, 3.0
LOOKING_SHARE = 1 / 10  # of the time: with hundreds of models a look costs Serve's controller and us a lot
WATCH_S = 10.0
REPORT_S = 5.0  # a Router that has said nothing for so long is gone


class Catalog:
    """Follows a models folder. Built by Ray Serve, as one replica; Routers call `watch`.

    `control`: whether callers may unload models and load them again. `spares`: how many workers are kept
    ready, per node, for replicas to come.
    """

    def __init__(
        self, models: str, control: bool = False, spares: int = 0, serve: ServeClient | None = None
    ) -> None:
        self.snapshot = Snapshot()
        self._reconciliation = Reconciliation(Path(models), serve or ServeClient())
        self._descriptions = Descriptions()
        self._control = control
        self._spares = Spares(spares, RUNTIME_ENV)
        self._changed = asyncio.Event()
        self._at_start: set[str] | None = None
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

    async def stats(self) -> list[ModelStats]:
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
            raise Forbidden("models are loaded and unloaded by the operator alone (`allow_model_control`)")
        folder = self._reconciliation.folders.known().get(id)
        if folder is None:
            raise ModelNotFound(f"no model of this cluster's folder is named {id!r}")
        return folder.path / UNLOADED

    async def check_health(self) -> None:
        """Raise when the loop that follows the folder has ended."""
        if self._task.done():
            raise RuntimeError("the catalog no longer follows its folder")

    async def _follow(self) -> None:
        # What two looks agree on is no longer being written.
        await asyncio.to_thread(self._reconciliation.folders.scan)
        while True:
            try:
                await self._step()
            except Exception:
                log.exception("the catalog could not compare folder and cluster; it tries again")
            pause = self._reconciliation.look_s / LOOKING_SHARE
            await asyncio.sleep(min(max(POLL_S, pause), LONGEST_POLL_S))

    async def _step(self) -> None:
        offered = {id for id, card in self.snapshot.cards.items() if card.state != "unavailable"}
        observation = await self._reconciliation.observe()
        if self.snapshot.version == NOT_LOOKED_YET:  # Routers wait, and to deploy hundreds takes long
            self._publish(observation)
        await self._reconciliation.deploy(observation)
        self._descriptions.update(observation.apps)
        self._publish(observation)
        if self.snapshot.startup_complete:  # at start they would take the time of the models themselves
            await self._spares.refill(from_spares(observation.apps))
        # Since the last step or before, Routers have been told to send nothing to what is deleted now.
        await self._reconciliation.delete(observation.apps, offered)

    def _publish(self, observation: Observation) -> None:
        cards = dict(self._cards(observation))
        if self._at_start is None:
            self._at_start = set(cards)
        waiting = {id for id, app in observation.apps.items() if waits_for_node(app, observation.nodes)}
        loading = {id for id, card in cards.items() if card.state == "loading"} - waiting
        settled = self.snapshot.startup_complete or not (self._at_start & loading)
        if self.snapshot == Snapshot(self.snapshot.version or "first", settled, cards):
            return
        self.snapshot = Snapshot(uuid.uuid4().hex, settled, cards)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _cards(self, observation: Observation) -> Iterable[tuple[str, Card]]:
        folders, apps, nodes = observation
        for id in sorted(folders.keys() | (apps.keys() - self._reconciliation.gone())):
            folder, app = folders.get(id), apps.get(id)
            problem = folder and self._reconciliation.problem(folder)
            if app and (not problem or is_anothers(app)):
                card = running_card(id, app, self._descriptions.get(app), nodes)
                yield id, card.model_copy(update={"reason": problem}) if problem else card
            elif problem:
                yield id, broken_card(id, problem)
            elif folder:
                yield id, waiting_card(folder)
