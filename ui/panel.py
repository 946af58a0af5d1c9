"""What every tab has: the choice of a model, its parameters, a notice, and the request as code."""

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from deployments.task import Task
from ui import forms
from ui import snippets as calls
from ui.forms import Field
from ui.outputs import as_json
from ui.snippets import Asked

SKIP = gr.skip()
BUSY = gr.update(interactive=False)  # of the button that asks, while an answer is written


@dataclass(frozen=True)
class Panel:
    """A task's tab, as far as what is live changes it."""

    task: Task
    model: gr.Dropdown
    standing: gr.HTML

    @property
    def title(self) -> str:
        return title(self.task)

    def live(self) -> list[gr.blocks.Block]:
        """What `live.refresh` updates, in its order."""
        return [self.model, self.standing]


def html(name: str, value: str = "", **more: Any) -> gr.HTML:
    """A place for HTML of our own, dressed by `page.css` alone; it takes no room while it is empty."""
    return gr.HTML(value, apply_default_css=False, elem_classes=["own", name], **more)


def title(task: Task) -> str:
    """The task's name as people read it: "Image classification"."""
    return forms.title(task.name.replace("-", "_"))


def choose(task: Task) -> tuple[gr.Dropdown, gr.HTML]:
    """A dropdown for the task's models, and a line on how they stand."""
    html("summary", f"<p>{escape(task.summary)}</p>")
    # Any value is let through, which is not to say typed: the router judges it, in words.
    model = gr.Dropdown([], label="Model", interactive=True, allow_custom_value=True)
    model.filterable = False
    return model, html("standing")


def parameters(task: Task) -> list[Field]:
    """The task's parameters, folded away; nothing where it has none."""
    if not task.params.model_fields:
        return []
    with gr.Accordion("Parameters", open=False, elem_classes=["parameters"]):
        return forms.fields(task.params)


def code() -> list[gr.Code]:
    """The answer as JSON and the request in each language, folded away: `written` fills them."""
    with gr.Accordion("Answer as JSON", open=False, elem_classes=["json"]):
        made = [
            gr.Code(language="json", label="JSON", max_lines=20, interactive=False, show_line_numbers=False)
        ]
    with gr.Accordion("The same call as code", open=False, elem_classes=["calls"]), gr.Tabs():
        for name, language in calls.LANGUAGES.items():
            with gr.Tab(name):
                made.append(
                    gr.Code(
                        language=language,
                        label=name,
                        max_lines=20,
                        interactive=False,
                        wrap_lines=True,
                        show_line_numbers=False,
                    )
                )
    return made


def written(asked: Asked, told: Any) -> list[str]:
    """The values of `code`'s components."""
    return [as_json(told), *calls.write(asked)]


def free(started: Any, button: gr.Button) -> None:
    """Let the button be pressed again once what it started has ended, or was stopped: gradio ignores what is
    pressed before, though the text may be whole by then."""
    started.then(
        lambda: gr.update(interactive=True),
        None,
        button,
        show_progress="hidden",
        queue=False,
        api_visibility="private",
    )
