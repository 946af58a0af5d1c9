"""The generic tab of a task: a form for the input and the parameters, and the output beside it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from deployments.schema import field_types
from deployments.task import Task
from ui import charts, forms, outputs, panel, requests
from ui.client import GatewayClient
from ui.forms import Field
from ui.requests import AddressResolver, notice
from ui.snippets import InferenceRequest
from ui.tab_bar import tab_panel

DEBOUNCE_S = 0.15  # delay of a request while the user types
TEXT_TYPES = ("text", "texts")


def build(task: Task, client: GatewayClient, addresses: AddressResolver) -> panel.TaskPanel:
    """Build the tab in the current gradio block."""
    with tab_panel(task.name), gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            model, model_states = panel.build_model_selection(task)
            inputs = forms.build_fields(task.input)
            example_buttons = _build_example_buttons(task)
            run, stop = _build_buttons(task)
            params = panel.build_parameters(task)
        with gr.Column(min_width=300):
            status = panel.html("request-status")
            output = outputs.output_component(task)
            code = panel.build_code_blocks()
    handlers = _FormHandlers(task, client, addresses, inputs, params, len(code))
    run_count = gr.State(0)
    triggers = [run.click, *([] if runs_on_change(task) else [run_count.change])]
    triggers += _input_triggers(task, model, inputs, params)
    values = [model, *(field.widget for field in (*inputs, *params))]
    updated = [*([run] if stop else []), status, output, *code]
    event = _bind_run(task, handlers, triggers, values, updated)
    if stop:
        panel.enable_after(event, run)
        stop.click(lambda: "", None, status, cancels=[event], api_visibility="private")
    _bind_examples(task, example_buttons, inputs, run_count, event)
    return panel.TaskPanel(task, model, model_states)


def runs_on_change(task: Task) -> bool:
    """Return whether every change of the form sends a request.

    These are the tasks that take text alone and generate none: their requests are short.
    """
    types = field_types(task.input).values()
    return outputs.text_field(task.output) is None and all(type_ in TEXT_TYPES for type_ in types)


class _FormHandlers:
    """Event handlers of a tab's form. `num_code_blocks` is the number of code components."""

    def __init__(
        self,
        task: Task,
        client: GatewayClient,
        addresses: AddressResolver,
        inputs: list[Field],
        params: list[Field],
        num_code_blocks: int,
    ) -> None:
        self.task, self.client, self.addresses = task, client, addresses
        self.inputs, self.params, self.num_code_blocks = inputs, params, num_code_blocks

    async def run(self, page_request: gr.Request, model: str | None, *values: Any) -> list[Any]:
        """Return the updates of the request status, the output and the code blocks."""
        try:
            request = self._build_request(page_request, model, values)
            output, rendering = await requests.fetch_output(self.client, request)
        except Exception as error:
            return [requests.error_notice(error), *[""] * (1 + self.num_code_blocks)]
        return ["", rendering, *panel.code_values(request, output)]

    async def run_debounced(self, page_request: gr.Request, model: str | None, *values: Any) -> list[Any]:
        """Return the updates of `run` after a delay, so that fast typing sends fewer requests."""
        await asyncio.sleep(DEBOUNCE_S)
        return await self.run(page_request, model, *values)

    async def run_streaming(
        self, page_request: gr.Request, model: str | None, *values: Any
    ) -> AsyncIterator[list[Any]]:
        """Yield the updates of the run button and of the components of `run` while the text grows."""
        skip_code = [panel.SKIP] * self.num_code_blocks
        try:
            request = self._build_request(page_request, model, values)
            yield [panel.DISABLED, notice("Generating\N{HORIZONTAL ELLIPSIS}", "info"), "", *skip_code]
            event, text = {}, ""
            async for last, text in requests.stream_text(self.client, request):
                event = last
                yield [panel.SKIP, panel.SKIP, text, *skip_code]
            yield [panel.SKIP, "", text, *panel.code_values(request, event)]
        except Exception as error:
            yield [panel.SKIP, requests.error_notice(error), panel.SKIP, *skip_code]

    def _build_request(
        self, page_request: gr.Request, model: str | None, values: tuple[Any, ...]
    ) -> InferenceRequest:
        count = len(self.inputs)
        inputs, params = (self.inputs, values[:count]), (self.params, values[count:])
        address = self.addresses.resolve(page_request)
        return requests.build_request(self.task, address, model, inputs, params)


def _build_buttons(task: Task) -> tuple[gr.Button, gr.Button | None]:
    """Create the run button, and for a task that streams the stop button."""
    with gr.Row():
        run = gr.Button("Run", variant="primary")
        stop = gr.Button("Stop") if task.chunk else None
    return run, stop


def _input_triggers(task: Task, model: gr.Dropdown, inputs: list[Field], params: list[Field]) -> list[Any]:
    """Return the widgets' events that send a request: Enter, and for `runs_on_change` every change."""
    textboxes = [field.widget for field in inputs if isinstance(field.widget, gr.Textbox)]
    triggers: list[Any] = [widget.submit for widget in textboxes]
    if runs_on_change(task):
        triggers += [widget.change for widget in textboxes]  # `input` does not fire for pasted text
        others: list[Any] = [model, *(field.widget for field in params)]
        triggers += [widget.input for widget in others]
    return triggers


def _bind_run(
    task: Task, handlers: _FormHandlers, triggers: list[Any], values: list[Any], updated: list[Any]
) -> Any:
    """Bind all triggers to one event and return it.

    One event runs at a time, and only the last trigger meanwhile starts the next one. So an older output
    never replaces a newer one.
    """
    on_change = runs_on_change(task)
    handler = handlers.run_streaming if task.chunk else handlers.run_debounced if on_change else handlers.run
    return gr.on(
        triggers,
        handler,
        values,
        updated,
        trigger_mode="once" if task.chunk else "always_last",
        show_progress="hidden" if on_change or task.chunk else "minimal",
        show_progress_on=None if on_change or task.chunk else updated[1],
        api_visibility="private",
    )


def _build_example_buttons(task: Task) -> list[gr.Button]:
    with gr.Row(elem_classes=["examples"]):
        return [gr.Button(_example_caption(task, example), size="sm") for example in task.examples()]


def _example_caption(task: Task, example: dict[str, Any]) -> str:
    """Return the beginning of the example's text, or a fixed caption if it has none."""
    types = field_types(task.input)
    if any(types[name] == "image" for name in example):
        return "Example image"
    texts = (value for value in example.values() if isinstance(value, str))
    return next((charts.truncate(text, 44) for text in texts), "Example")


def _bind_examples(
    task: Task, buttons: list[gr.Button], inputs: list[Field], run_count: gr.State, event: Any
) -> None:
    """Make each button fill the form with its example and run it.

    The change of `run_count`, or of the form, triggers the run.
    """
    for button, example in zip(buttons, task.examples(), strict=True):

        def fill(count: int, example: dict[str, Any] = example) -> list[Any]:
            return [count + 1, *(forms.to_widget_value(field, example.get(field.name)) for field in inputs)]

        button.click(
            fill,
            run_count,
            [run_count, *(field.widget for field in inputs)],
            cancels=[event] if task.chunk else None,
            show_progress="hidden",
            api_visibility="private",
        )
