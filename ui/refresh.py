"""Updates of open pages: the tabs, the models and their states.

A page receives an update only if something changed. The fields of a form are never updated, so that they
keep the user's input.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import gradio as gr

from ui import status
from ui.live_models import LiveModels, ModelsSnapshot
from ui.panel import TaskPanel
from ui.requests import notice
from ui.tab_bar import STATUS, tab_list

PageState = dict[str, Any]


class PageRefresher:
    """Updates for open pages. Each page has its `PageState`: what it displays."""

    def __init__(self, live_models: LiveModels, panels: Sequence[TaskPanel]) -> None:
        self.live_models, self.panels = live_models, panels

    async def refresh(self, open_tab: str, displayed: PageState, *selected: str | None) -> Any:
        """Return the new page state, the model counts, the tab notices, the tabs, the table and the panels.

        `selected` is the selected model of each panel.
        """
        snapshot = await self.live_models.get_snapshot()
        table = status.status_table(snapshot) if open_tab == STATUS else gr.skip()
        state: PageState = {"cards": [card.model_dump() for card in snapshot.cards], "error": snapshot.error}
        if state == {name: displayed.get(name) for name in state}:
            return [*[gr.skip()] * 4, table, *[gr.skip()] * (2 * len(self.panels))]
        state["tabs"] = [panel.task.name for panel in self.panels if snapshot.ready_models(panel.task.name)]
        notices, tabs = self._update_tabs(snapshot, displayed.get("tabs"), state["tabs"])
        pairs = zip(self.panels, selected, strict=True)
        panels = chain.from_iterable(self._update_panel(snapshot, *pair) for pair in pairs)
        return [state, status.state_counts(snapshot), notices, tabs, table, *panels]

    def _update_tabs(self, snapshot: ModelsSnapshot, old: list[str] | None, new: list[str]) -> list[Any]:
        """Return the notices and the tab list; the notices stay until the list changes again."""
        if new == old:
            return [gr.skip(), gr.skip()]
        hidden = [panel for panel in self.panels if panel.task.name in set(old or []) - set(new)]
        notices = "".join(notice(_hidden_tab_sentence(snapshot, panel), "info") for panel in hidden)
        tabs = [(panel.task.name, panel.title) for panel in self.panels if panel.task.name in new]
        return [notices, tab_list(tabs)]

    def _update_panel(self, snapshot: ModelsSnapshot, panel: TaskPanel, selected: str | None) -> list[Any]:
        """Return the updates of the panel's model selection and model states."""
        ready = snapshot.ready_models(panel.task.name)
        model = selected if selected in ready else next(iter(ready), None)
        states = "".join(map(status.model_state, snapshot.task_cards(panel.task.name)))
        replaced = selected and model and model != selected
        sentence = f"The model {selected} is no longer ready; {model} is selected now." if replaced else ""
        value: dict[str, Any] = {} if model == selected else {"value": model}
        selection = gr.Dropdown(choices=ready, **value) if ready else gr.skip()
        return [selection, f'<ul class="model-list">{states}</ul>{notice(sentence, "info")}']


def _hidden_tab_sentence(snapshot: ModelsSnapshot, panel: TaskPanel) -> str:
    states = [
        f"{card.id} is {card.state}{f' ({card.reason})' if card.reason else ''}"
        for card in snapshot.task_cards(panel.task.name)
    ]
    return f"The tab {panel.title} is hidden: {'; '.join(states) or 'its last model was removed'}."
