"""A conversation: what was said so far, and the reply as it is written. The history lives in the page."""

from collections.abc import AsyncIterator
from html import escape, unescape
from typing import Any

import gradio as gr

from deployments.schema import words
from deployments.task import Task
from ui import charts as drawing
from ui import forms, panel
from ui import requests as asking
from ui import tab_bar as strip
from ui.client import Client
from ui.forms import Blank, Field
from ui.requests import Place, notice
from ui.snippets import Asked

Turns = list[dict[str, Any]]


def fits(task: Task) -> bool:
    """Tasks that take a conversation, and stream."""
    return "conversation" in words(task.input).values() and task.chunk is not None


def build(task: Task, client: Client, place: Place) -> panel.Panel:
    """Make the tab, in the gradio block that is open."""
    with strip.panel(task.name):
        model, standing = panel.choose(task)
        chat = gr.Chatbot(
            label="Conversation",
            height=420,
            render_markdown=False,
            buttons=["copy", "copy_all"],
            feedback_options=None,
            placeholder="Say something, or take an example.",
        )
        said = panel.html("said")
        box, send, stop, clear = _controls()
        chips = _chips(task)
        params = panel.parameters(task)
        code = panel.code()
    talk = _Talk(task, client, place, params, len(code))
    outputs = [box, chat, said, *code]
    sent = gr.on(
        [box.submit, send.click],
        talk.say,
        [model, box, chat, *(field.widget for field in params)],
        [send, *outputs],
        trigger_mode="once",
        show_progress="hidden",
        api_visibility="private",
    )
    panel.free(sent, send)
    stop.click(lambda: "", None, said, cancels=[sent], api_visibility="private")
    clear.click(
        lambda: ["", [], "", *[""] * len(code)], None, outputs, cancels=[sent], api_visibility="private"
    )
    _fill(task, chips, box, chat, sent)
    return panel.Panel(task, model, standing)


class _Talk:
    """The tab's conversation with whichever model is chosen."""

    def __init__(self, task: Task, client: Client, place: Place, params: list[Field], code: int) -> None:
        self.task, self.client, self.place, self.params = task, client, place, params
        self.skip = [panel.SKIP] * code
        self.field = next(name for name, word in words(task.input).items() if word == "conversation")

    async def say(
        self, request: gr.Request, model: str | None, text: str, shown: Turns, *values: Any
    ) -> AsyncIterator[list[Any]]:
        """What the outputs show: the button, the box, the conversation, a notice, and the request as code."""
        before = turns(shown)
        try:
            asked = self._question(request, model, text, before, values)
        except Blank as blank:
            yield [panel.SKIP, panel.SKIP, panel.SKIP, asking.refusal(blank), *self.skip]
            return
        said = [_turn(**turn) for turn in asked.item[self.field]]
        yield [panel.BUSY, "", said, notice("Writing\N{HORIZONTAL ELLIPSIS}", "quiet"), *self.skip]
        try:
            event: dict[str, Any] = {}
            async for last, reply in asking.text(self.client, asked):
                event = last
                yield [panel.SKIP, panel.SKIP, [*said, _turn("assistant", reply)], panel.SKIP, *self.skip]
            yield [panel.SKIP, panel.SKIP, panel.SKIP, "", *panel.written(asked, event)]
        except Exception as error:  # what was said goes back into the box, to be sent again
            yield [panel.SKIP, text, said[:-1], asking.refusal(error), *self.skip]

    def _question(
        self, request: gr.Request, model: str | None, text: str, before: Turns, values: tuple[Any, ...]
    ) -> Asked:
        if not text.strip():
            raise Blank("There is nothing to send yet.")
        if not model:
            raise Blank("No model is chosen.")
        item = {self.field: [*before, {"role": "user", "content": text.strip()}]}
        door = self.place.door(request)
        return Asked(door, model, self.task, item, forms.read(self.params, values), {})


def _turn(role: str, content: str) -> dict[str, str]:
    """A turn as gradio's chat shows it: escaped, for it would obey markup, and so ask other hosts."""
    return {"role": role, "content": escape(content, quote=False)}


def turns(shown: Turns | None) -> Turns:
    """The conversation as the task reads it, from what gradio's chat holds."""
    return [{"role": turn["role"], "content": _plain(turn["content"])} for turn in shown or []]


def _plain(content: Any) -> str:
    parts = content if isinstance(content, list) else [content]
    return unescape("".join(part if isinstance(part, str) else part.get("text", "") for part in parts))


def _controls() -> tuple[gr.Textbox, gr.Button, gr.Button, gr.Button]:
    box = gr.Textbox(label="Your turn", placeholder="Enter sends", max_lines=6)
    with gr.Row():
        send = gr.Button("Send", variant="primary")
        stop = gr.Button("Stop")
        clear = gr.Button("Clear")
    return box, send, stop, clear


def _chips(task: Task) -> list[gr.Button]:
    with gr.Row(elem_classes=["chips"]):
        return [
            gr.Button(drawing.short(next(iter(example.values()))[-1]["content"], 44), size="sm")
            for example in task.examples()
        ]


def _fill(task: Task, chips: list[gr.Button], box: gr.Textbox, chat: gr.Chatbot, sent: Any) -> None:
    """An example puts its last turn into the box, after those before it."""
    for chip, example in zip(chips, task.examples(), strict=True):
        *before, last = next(iter(example.values()))
        chip.click(
            lambda before=before, last=last: (last["content"], [_turn(**turn) for turn in before]),
            None,
            [box, chat],
            cancels=[sent],
            show_progress="hidden",
            api_visibility="private",
        )
