"""The tab of any task: its form on one side, its answer on the other. No task needs code of its own here."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from deployments.schema import words
from deployments.task import Task
from ui import charts as drawing
from ui import forms, panel
from ui import outputs as views
from ui import requests as asking
from ui import tab_bar as strip
from ui.client import Client
from ui.forms import Field
from ui.requests import Place, notice
from ui.snippets import Asked

THINKING = 0.15  # seconds that typing is let run before it is asked about
TYPED = ("text", "texts")


def build(task: Task, client: Client, place: Place) -> panel.Panel:
    """Make the tab, in the gradio block that is open."""
    with strip.panel(task.name), gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            model, standing = panel.choose(task)
            inputs = forms.fields(task.input)
            chips = _chips(task)
            run, stop = _buttons(task)
            params = panel.parameters(task)
        with gr.Column(min_width=300):
            said = panel.html("said")
            shown = views.component(task)
            code = panel.code()
    asked = _Asking(task, client, place, inputs, params, len(code))
    outputs = [said, shown, *code]
    sources = [model, *(field.widget for field in (*inputs, *params))]
    go = gr.State(0)
    triggers = [run.click, *([] if is_quick(task) else [go.change]), *_typing(task, model, inputs, params)]
    started = _ask(task, asked, triggers, sources, [run, *outputs] if stop else outputs)
    if stop:
        panel.free(started, run)
        stop.click(lambda: "", None, said, cancels=[started], api_visibility="private")
    _fill(task, chips, inputs, go, started)
    return panel.Panel(task, model, standing)


def is_quick(task: Task) -> bool:
    """Whether an answer may come at every stroke: text that is judged, not text that is written."""
    means = words(task.input).values()
    return views.text_field(task.output) is None and all(word in TYPED for word in means)


class _Asking:
    """A tab's question, asked of the model that the page has chosen."""

    def __init__(
        self, task: Task, client: Client, place: Place, inputs: list[Field], params: list[Field], code: int
    ) -> None:
        self.task, self.client, self.place = task, client, place
        self.inputs, self.params, self.code = inputs, params, code

    async def whole(self, request: gr.Request, model: str | None, *values: Any) -> list[Any]:
        """What the outputs show: a notice, the answer, its JSON and the request as code."""
        try:
            asked = self._question(request, model, values)
            told, shown = await asking.answer(self.client, asked)
        except Exception as error:
            return [asking.refusal(error), *[""] * (1 + self.code)]
        return ["", shown, *panel.written(asked, told)]

    async def typed(self, request: gr.Request, model: str | None, *values: Any) -> list[Any]:
        """As `whole`, for a person who is still typing: an empty form is no mistake yet."""
        await asyncio.sleep(THINKING)
        return await self.whole(request, model, *values)

    async def stream(self, request: gr.Request, model: str | None, *values: Any) -> AsyncIterator[list[Any]]:
        """As `whole`, again and again while the text grows, after the button."""
        skip = [panel.SKIP] * self.code
        try:
            asked = self._question(request, model, values)
            yield [panel.BUSY, notice("Writing\N{HORIZONTAL ELLIPSIS}", "quiet"), "", *skip]
            event, text = {}, ""
            async for last, text in asking.text(self.client, asked):
                event = last
                yield [panel.SKIP, panel.SKIP, text, *skip]
            yield [panel.SKIP, "", text, *panel.written(asked, event)]
        except Exception as error:
            yield [panel.SKIP, asking.refusal(error), panel.SKIP, *skip]

    def _question(self, request: gr.Request, model: str | None, values: tuple[Any, ...]) -> Asked:
        cut = len(self.inputs)
        inputs, params = (self.inputs, values[:cut]), (self.params, values[cut:])
        return asking.question(self.task, self.place.door(request), model, inputs, params)


def _buttons(task: Task) -> tuple[gr.Button, gr.Button | None]:
    with gr.Row():
        run = gr.Button("Run", variant="primary")
        stop = gr.Button("Stop") if task.chunk else None
    return run, stop


def _typing(task: Task, model: gr.Dropdown, inputs: list[Field], params: list[Field]) -> list[Any]:
    """What asks besides the button: Enter, and where answers are quick, every change."""
    written = [field.widget for field in inputs if isinstance(field.widget, gr.Textbox)]
    triggers: list[Any] = [widget.submit for widget in written]
    if is_quick(task):
        triggers += [widget.change for widget in written]  # `input` does not see what is pasted
        chosen: list[Any] = [model, *(field.widget for field in params)]
        triggers += [widget.input for widget in chosen]
    return triggers


def _ask(task: Task, asked: _Asking, triggers: list[Any], sources: list[Any], outputs: list[Any]) -> Any:
    """One event for every way to ask: what is asked while it runs waits for it, and only the last of that is
    asked then, so that no older answer comes after a newer one."""
    quick = is_quick(task)
    ask = asked.stream if task.chunk else asked.typed if quick else asked.whole
    return gr.on(
        triggers,
        ask,
        sources,
        outputs,
        trigger_mode="once" if task.chunk else "always_last",
        show_progress="hidden" if quick or task.chunk else "minimal",
        show_progress_on=None if quick or task.chunk else outputs[1],
        api_visibility="private",
    )


def _chips(task: Task) -> list[gr.Button]:
    with gr.Row(elem_classes=["chips"]):
        return [gr.Button(_caption(task, example), size="sm") for example in task.examples()]


def _caption(task: Task, example: dict[str, Any]) -> str:
    """The beginning of an example's text; of a picture, that it is one."""
    means = words(task.input)
    if any(means[name] == "image" for name in example):
        return "Example picture"
    return next((drawing.short(value, 44) for value in example.values() if isinstance(value, str)), "Example")


def _fill(task: Task, chips: list[gr.Button], inputs: list[Field], go: gr.State, started: Any) -> None:
    """An example fills the form, and is asked at once: by `go`, or where every change asks, by that."""
    for chip, example in zip(chips, task.examples(), strict=True):

        def fill(count: int, example: dict[str, Any] = example) -> list[Any]:
            return [count + 1, *(forms.write(field, example.get(field.name)) for field in inputs)]

        chip.click(
            fill,
            go,
            [go, *(field.widget for field in inputs)],
            cancels=[started] if task.chunk else None,
            show_progress="hidden",
            api_visibility="private",
        )
