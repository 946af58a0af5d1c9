"""The strip of tabs: which there are comes from the server, which one is open is the page's own.

Gradio's own tabs lose their place when several come and go at once (gradio 6.31), and take a hidden tab's
fields away with it. Here a panel stays on the page while its tab is gone: what was typed in it is kept.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import gradio as gr

from ui.panel import html

STATUS = "status"
SCRIPT = (Path(__file__).parent / "tab_bar.js").read_text()
OPENED = "(opened, ...rest) => [document.querySelector('[data-open]')?.dataset.open ?? '', ...rest]"


def strip() -> gr.HTML:
    """The strip's place; its value is `tabs`. It clicks when another tab is opened."""
    return html("strip", tabs([]), js_on_load=SCRIPT)


def panel(name: str) -> gr.Column:
    """Where the tab `name` has its content."""
    return gr.Column(elem_id=f"panel-{name}")


def tabs(named: Sequence[tuple[str, str]]) -> str:
    """A tab for each name with its title, and the status tab."""
    made = "".join(
        f'<button role="tab" type="button" id="tab-{escape(name)}" data-tab="{escape(name)}" '
        f'aria-controls="panel-{escape(name)}">{escape(title)}</button>'
        for name, title in [*named, (STATUS, "Status")]
    )
    return f'<div role="tablist" aria-label="Tasks">{made}</div>'
