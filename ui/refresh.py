"""What open pages show of what is live: which tabs there are, which models, and how they stand.

Nothing is sent to a page where nothing has changed, and a form's fields are never sent: what was typed stays.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import gradio as gr

from ui import status
from ui import tab_bar as strip
from ui.live_models import Board, View
from ui.panel import Panel
from ui.requests import notice
from ui.tab_bar import STATUS

Seen = dict[str, Any]


class Pages:
    """Refreshes open pages. A page's `seen` is what it last showed; it is the page's own."""

    def __init__(self, board: Board, panels: Sequence[Panel]) -> None:
        self.board, self.panels = board, panels

    async def refresh(self, opened: str, seen: Seen, *chosen: str | None) -> Any:
        """What the page has seen now, its head, its farewell, its tabs, its table, and each panel's."""
        view = await self.board.look()
        table = status.table(view) if opened == STATUS else gr.skip()
        now = {"cards": [card.model_dump() for card in view.cards], "trouble": view.trouble}
        if now == {name: seen.get(name) for name in now}:
            return [*[gr.skip()] * 4, table, *[gr.skip()] * (2 * len(self.panels))]
        live = [panel for panel in self.panels if view.ready(panel.task.name)]
        now["open"] = [panel.task.name for panel in live]
        changed = now["open"] != seen.get("open")
        tabs = strip.tabs([(panel.task.name, panel.title) for panel in live]) if changed else gr.skip()
        farewell = self._farewell(view, seen, now) if changed else gr.skip()
        updates = [self._panel(view, *pair) for pair in zip(self.panels, chosen, strict=True)]
        return [now, status.summary(view), farewell, tabs, table, *chain.from_iterable(updates)]

    def _panel(self, view: View, panel: Panel, chosen: str | None) -> list[Any]:
        ready = view.ready(panel.task.name)
        kept = chosen if chosen in ready else next(iter(ready), None)
        moved = f"The model {chosen} is no longer ready; {kept} is chosen now." if chosen and kept else ""
        rows = "".join(map(status.standing, view.of(panel.task.name)))
        told = f'<ul class="models">{rows}</ul>{notice(moved, "quiet") if kept != chosen else ""}'
        value: dict[str, Any] = {} if kept == chosen else {"value": kept}
        choice = gr.Dropdown(choices=ready, **value) if ready else gr.skip()
        return [choice, told]

    def _farewell(self, view: View, seen: Seen, now: Seen) -> str:
        """A sentence for each tab that leaves; it stays until the next change of tabs."""
        gone = set(seen.get("open", [])) - set(now["open"])
        left = [panel for panel in self.panels if panel.task.name in gone]
        return "".join(notice(_goodbye(view, panel), "quiet") for panel in left)


def _goodbye(view: View, panel: Panel) -> str:
    rest = view.of(panel.task.name)
    why = "; ".join(f"{card.id} is {card.state}{f' ({card.reason})' if card.reason else ''}" for card in rest)
    return f"The tab {panel.title} has left: {why or 'its last model has gone'}."
