"""Parts that every task's tab has: the model selection, the parameters and the code snippets."""

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from deployments.task import Task
from ui import forms, snippets
from ui.forms import Field
from ui.outputs import to_json
from ui.snippets import InferenceRequest

SKIP = gr.skip()
DISABLED = gr.update(interactive=False)  # of the button that starts a stream, while the stream runs


@dataclass(frozen=True)
class TaskPanel:
    """The components of a task's tab that change with the state of its models."""

    task: Task
    model: gr.Dropdown
    model_states: gr.HTML

    @property
    def title(self) -> str:
        """The title of the tab."""
        return task_title(self.task)

    def live_components(self) -> list[gr.blocks.Block]:
        """Return the components that `PageRefresher.refresh` updates, in its order."""
        return [self.model, self.model_states]


def html(name: str, value: str = "", **options: Any) -> gr.HTML:
    """Create an HTML component that is styled by `page.css` alone and takes no space while it is empty."""
    return gr.HTML(value, apply_default_css=False, elem_classes=["roster-html", name], **options)


def task_title(task: Task) -> str:
    """Return the title of a task: "Image classification" for "image-classification"."""
    return forms.field_label(task.name.replace("-", "_"))


def build_model_selection(task: Task) -> tuple[gr.Dropdown, gr.HTML]:
    """Create the task's summary, a dropdown for its models, and the list of their states."""
    html("summary", f"<p>{escape(task.summary)}</p>")
    # Gradio would reject a model that was removed meanwhile; the gateway does so with a better message.
    # Without the filter, the user still cannot type a value.
    model = gr.Dropdown([], label="Model", interactive=True, allow_custom_value=True)
    model.filterable = False
    return model, html("model-states")


def build_parameters(task: Task) -> list[Field]:
    """Create the task's parameters in a closed accordion; nothing if it has none."""
    if not task.params.model_fields:
        return []
    with gr.Accordion("Parameters", open=False, elem_classes=["parameters"]):
        return forms.build_fields(task.params)


def build_code_blocks() -> list[gr.Code]:
    """Create closed accordions for the output's JSON and the snippets; `code_values` gives their values."""
    with gr.Accordion("Output as JSON", open=False, elem_classes=["json"]):
        blocks = [_code_block("JSON", "json")]
    with gr.Accordion("Request as code", open=False, elem_classes=["snippets"]), gr.Tabs():
        for name, language in snippets.LANGUAGES.items():
            with gr.Tab(name):
                blocks.append(_code_block(name, language, wrap_lines=True))
    return blocks


def _code_block(label: str, language: Any, wrap_lines: bool = False) -> gr.Code:
    return gr.Code(
        language=language,
        label=label,
        max_lines=20,
        interactive=False,
        wrap_lines=wrap_lines,
        show_line_numbers=False,
    )


def code_values(request: InferenceRequest, output: Any) -> list[str]:
    """Return the values of the components that `build_code_blocks` creates."""
    return [to_json(output), *snippets.all_snippets(request)]


def enable_after(event: Any, button: gr.Button) -> None:
    """Enable the button when the event has ended or was cancelled.

    Gradio ignores clicks until then, even if the text is complete.
    """
    event.then(
        lambda: gr.update(interactive=True),
        None,
        button,
        show_progress="hidden",
        queue=False,
        api_visibility="private",
    )
