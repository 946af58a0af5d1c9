"""State of the models, shared by all open pages: one request to the gateway per second at most."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deployments.card import Card
from ui.client import GatewayClient, RequestFailed

CACHE_S = 0.9
HISTORY_LENGTH = 60  # values of each plotted statistic per model
PLOTTED_STATS = ("requests_per_second", "p95_ms", "in_flight")


@dataclass(frozen=True)
class ModelsSnapshot:
    """The models and their statistics at one moment.

    `history` holds the last values of each of `PLOTTED_STATS` by model id and name. `error` says why the
    gateway could not be reached; the cards are then those of the last successful request.
    """

    cards: list[Card] = field(default_factory=list)
    stats: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)
    error: str = ""

    def task_cards(self, task: str) -> list[Card]:
        """Return the task's models, in any state."""
        return [card for card in self.cards if card.task == task]

    def ready_models(self, task: str) -> list[str]:
        """Return the ids of the task's ready models."""
        return [card.id for card in self.task_cards(task) if card.state == "ready"]


class LiveModels:
    """A cache of the gateway's models and statistics, with the recent history of the plotted ones."""

    def __init__(self, client: GatewayClient, clock: Callable[[], float] = time.monotonic) -> None:
        self.client, self.clock = client, clock
        self.snapshot = ModelsSnapshot()
        self.fetched_at = float("-inf")
        self.lock = asyncio.Lock()
        self.history: dict[str, dict[str, deque[float | None]]] = defaultdict(
            lambda: {name: deque(maxlen=HISTORY_LENGTH) for name in PLOTTED_STATS}
        )

    async def get_snapshot(self) -> ModelsSnapshot:
        """Return a snapshot that is at most `CACHE_S` old."""
        async with self.lock:
            if self.clock() - self.fetched_at > CACHE_S:
                self.snapshot = await self._fetch()
                self.fetched_at = self.clock()
        return self.snapshot

    async def _fetch(self) -> ModelsSnapshot:
        try:
            cards = await self.client.fetch_cards()
            stats = await self.client.fetch_stats()
        except RequestFailed as error:
            return ModelsSnapshot(self.snapshot.cards, {}, self.snapshot.history, str(error))
        self._record_history(cards, stats)
        history = {
            model: {name: list(values) for name, values in plots.items()}
            for model, plots in self.history.items()
        }
        return ModelsSnapshot(cards, stats, history)

    def _record_history(self, cards: list[Card], stats: dict[str, dict[str, Any]]) -> None:
        for model in self.history.keys() - {card.id for card in cards}:
            del self.history[model]
        for card in cards:
            for name, values in self.history[card.id].items():
                values.append(stats.get(card.id, {}).get(name))
