"""The tab bar: the server sends the list of tabs, the browser keeps the selection.

Gradio's tabs lose the selection when several tabs appear or disappear at once, and remove the fields of a
hidden tab (gradio 6.31). Here a panel stays in the page while its tab is hidden, so that its fields keep
their values.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import gradio as gr

from ui.panel import html

STATUS = "status"
SCRIPT = (Path(__file__).parent / "tab_bar.js").read_text()
OPEN_TAB_JS = "(open, ...rest) => [document.querySelector('[data-open]')?.dataset.open ?? '', ...rest]"


def build_tab_bar() -> gr.HTML:
    """Create the tab bar; its value is `tab_list`. It emits `click` when the user opens another tab."""
    return html("tab-bar", tab_list([]), js_on_load=SCRIPT)


def tab_panel(name: str) -> gr.Column:
    """Create the container for the content of the tab `name`."""
    return gr.Column(elem_id=f"panel-{name}")


def tab_list(tabs: Sequence[tuple[str, str]]) -> str:
    """Return the HTML of a tab per name and title, followed by the status tab."""
    buttons = "".join(
        f'<button role="tab" type="button" id="tab-{escape(name)}" data-tab="{escape(name)}" '
        f'aria-controls="panel-{escape(name)}">{escape(title)}</button>'
        for name, title in [*tabs, (STATUS, "Status")]
    )
    return f'<div role="tablist" aria-label="Tasks">{buttons}</div>'
