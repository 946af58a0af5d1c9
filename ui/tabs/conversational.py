"""The chat tab: a conversation with a streamed reply. The browser holds the history."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import escape, unescape
from typing import Any

import gradio as gr

from deployments.schema import field_types
from deployments.task import Task
from ui import charts, forms, panel, requests
from ui.client import GatewayClient
from ui.forms import Field, MissingInput
from ui.requests import AddressResolver, notice
from ui.snippets import InferenceRequest
from ui.tab_bar import tab_panel

Messages = list[dict[str, Any]]


def fits(task: Task) -> bool:
    """Return whether the task takes a conversation and streams its output."""
    return "conversation" in field_types(task.input).values() and task.chunk is not None


@dataclass(frozen=True)
class _Controls:
    """The message box and the buttons below it."""

    message: gr.Textbox
    send: gr.Button
    stop: gr.Button
    clear: gr.Button


def build(task: Task, client: GatewayClient, addresses: AddressResolver) -> panel.TaskPanel:
    """Build the tab in the current gradio block."""
    with tab_panel(task.name):
        model, model_states = panel.build_model_selection(task)
        chat = _build_chatbot()
        status = panel.html("request-status")
        controls = _build_controls()
        example_buttons = _build_example_buttons(task)
        params = panel.build_parameters(task)
        code = panel.build_code_blocks()
    handlers = _ChatHandlers(task, client, addresses, params, len(code))
    outputs = [controls.message, chat, status, *code]
    event = gr.on(
        [controls.message.submit, controls.send.click],
        handlers.send,
        [model, controls.message, chat, *(field.widget for field in params)],
        [controls.send, *outputs],
        trigger_mode="once",
        show_progress="hidden",
        api_visibility="private",
    )
    panel.enable_after(event, controls.send)
    controls.stop.click(lambda: "", None, status, cancels=[event], api_visibility="private")
    empty = ["", [], "", *[""] * len(code)]
    controls.clear.click(lambda: empty, None, outputs, cancels=[event], api_visibility="private")
    _bind_examples(task, example_buttons, controls.message, chat, event)
    return panel.TaskPanel(task, model, model_states)


class _ChatHandlers:
    """Event handlers of the chat. `num_code_blocks` is the number of code components."""

    def __init__(
        self,
        task: Task,
        client: GatewayClient,
        addresses: AddressResolver,
        params: list[Field],
        num_code_blocks: int,
    ) -> None:
        self.task, self.client, self.addresses, self.params = task, client, addresses, params
        self.skip_code = [panel.SKIP] * num_code_blocks
        self.field = next(name for name, type_ in field_types(task.input).items() if type_ == "conversation")

    async def send(
        self, page_request: gr.Request, model: str | None, text: str, history: Messages, *values: Any
    ) -> AsyncIterator[list[Any]]:
        """Yield updates of the send button, the message box, the chat, the status and the code blocks."""
        try:
            request = self._build_request(page_request, model, text, to_task_messages(history), values)
        except MissingInput as error:
            yield [panel.SKIP, panel.SKIP, panel.SKIP, requests.error_notice(error), *self.skip_code]
            return
        chat = [_to_chatbot_message(**message) for message in request.item[self.field]]
        status = notice("Generating\N{HORIZONTAL ELLIPSIS}", "info")
        yield [panel.DISABLED, "", chat, status, *self.skip_code]
        try:
            event: dict[str, Any] = {}
            async for last, reply in requests.stream_text(self.client, request):
                event = last
                messages = [*chat, _to_chatbot_message("assistant", reply)]
                yield [panel.SKIP, panel.SKIP, messages, panel.SKIP, *self.skip_code]
            yield [panel.SKIP, panel.SKIP, panel.SKIP, "", *panel.code_values(request, event)]
        except Exception as error:  # the failed message returns to the message box, so that it can be resent
            yield [panel.SKIP, text, chat[:-1], requests.error_notice(error), *self.skip_code]

    def _build_request(
        self,
        page_request: gr.Request,
        model: str | None,
        text: str,
        history: Messages,
        values: tuple[Any, ...],
    ) -> InferenceRequest:
        if not text.strip():
            raise MissingInput("The message is empty.")
        if not model:
            raise MissingInput("No model is selected.")
        item = {self.field: [*history, {"role": "user", "content": text.strip()}]}
        params = forms.parse_form(self.params, values)
        return InferenceRequest(self.addresses.resolve(page_request), model, self.task, item, params, {})


def _to_chatbot_message(role: str, content: str) -> dict[str, str]:
    """Build a message for gr.Chatbot, escaped: the component would render HTML and load its images."""
    return {"role": role, "content": escape(content, quote=False)}


def to_task_messages(history: Messages | None) -> Messages:
    """Convert the messages of gr.Chatbot to the task's messages."""
    return [
        {"role": message["role"], "content": _plain_text(message["content"])} for message in history or []
    ]


def _plain_text(content: Any) -> str:
    parts = content if isinstance(content, list) else [content]
    return unescape("".join(part if isinstance(part, str) else part.get("text", "") for part in parts))


def _build_chatbot() -> gr.Chatbot:
    return gr.Chatbot(
        label="Conversation",
        height=420,
        render_markdown=False,
        buttons=["copy", "copy_all"],
        feedback_options=None,
        placeholder="Send a message or choose an example.",
    )


def _build_controls() -> _Controls:
    message = gr.Textbox(label="Message", placeholder="Press Enter to send", max_lines=6)
    with gr.Row():
        return _Controls(message, gr.Button("Send", variant="primary"), gr.Button("Stop"), gr.Button("Clear"))


def _build_example_buttons(task: Task) -> list[gr.Button]:
    with gr.Row(elem_classes=["examples"]):
        return [
            gr.Button(charts.truncate(next(iter(example.values()))[-1]["content"], 44), size="sm")
            for example in task.examples()
        ]


def _bind_examples(
    task: Task, buttons: list[gr.Button], message: gr.Textbox, chat: gr.Chatbot, event: Any
) -> None:
    """Make each button put its example's last message into the message box and the others into the chat."""
    for button, example in zip(buttons, task.examples(), strict=True):
        *history, last = next(iter(example.values()))
        values = last["content"], [_to_chatbot_message(**turn) for turn in history]
        button.click(
            lambda values=values: values,
            None,
            [message, chat],
            cancels=[event],
            show_progress="hidden",
            api_visibility="private",
        )
