"""What is live, as every open page reads it: asked of the router at most once a second, however many look."""

import asyncio
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from deployments.card import Card
from ui.client import Client, Refusal

FRESH = 0.9  # seconds
KEPT = 60  # figures of each model, for the plots
PLOTTED = ("requests_per_second", "p95_ms", "in_flight")


@dataclass(frozen=True)
class View:
    """The models, how they do, and what is wrong if the router could not be asked."""

    cards: list[Card] = field(default_factory=list)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    past: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)
    trouble: str = ""

    def of(self, task: str) -> list[Card]:
        """The task's models, in whatever state."""
        return [card for card in self.cards if card.task == task]

    def ready(self, task: str) -> list[str]:
        return [card.id for card in self.of(task) if card.state == "ready"]


class Board:
    """Reads the router for all pages together."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.view = View()
        self.read_at = float("-inf")
        self.reading = asyncio.Lock()
        self.past: dict[str, dict[str, deque[float | None]]] = defaultdict(
            lambda: {name: deque(maxlen=KEPT) for name in PLOTTED}
        )

    async def look(self) -> View:
        """What is live now; what was last known, with a sentence, while the router cannot be asked."""
        async with self.reading:
            if time.monotonic() - self.read_at > FRESH:
                self.view = await self._read()
                self.read_at = time.monotonic()
        return self.view

    async def _read(self) -> View:
        try:
            cards = await self.client.cards()
            figures = await self.client.figures()
        except Refusal as refusal:
            return View(self.view.cards, {}, self.view.past, str(refusal))
        self._remember(cards, figures)
        past = {model: {name: list(row) for name, row in rows.items()} for model, rows in self.past.items()}
        return View(cards, figures, past)

    def _remember(self, cards: list[Card], figures: dict[str, dict[str, Any]]) -> None:
        for model in self.past.keys() - {card.id for card in cards}:
            del self.past[model]
        for card in cards:
            for name, row in self.past[card.id].items():
                row.append(figures.get(card.id, {}).get(name))
