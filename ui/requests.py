"""One question from a page to a model, whole or as it streams; every failure is a sentence."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from deployments.schema import Vector, words
from deployments.task import Task
from ui import outputs as views
from ui.client import Client, Refusal
from ui.forms import Blank, Field, read
from ui.snippets import Asked, Door

log = logging.getLogger(__name__)

PACE = 0.05  # seconds between two updates of a streaming answer
GRPC_PORT = 9000


class Place:
    """Where callers find the router: `url`, or for a page behind its door, where the page itself is."""

    def __init__(self, url: str, *, at_door: bool = False, grpc_port: int = GRPC_PORT) -> None:
        self.url, self.at_door, self.grpc_port = url.rstrip("/"), at_door, grpc_port

    def door(self, request: gr.Request | None) -> Door:
        http = _origin(request) if self.at_door and request else self.url
        host = urlsplit(http).hostname or "localhost"
        return Door(http, f"{f'[{host}]' if ':' in host else host}:{self.grpc_port}")


def _origin(request: gr.Request) -> str:
    """The page's own address as the browser knows it, without the page's path."""
    headers = request.headers
    scheme = headers.get("x-forwarded-proto", request.url.scheme).split(",")[0].strip()
    host = headers.get("x-forwarded-host", headers.get("host", "localhost")).split(",")[0].strip()
    return f"{scheme}://{host}"


def question(
    task: Task,
    door: Door,
    model: str | None,
    inputs: tuple[Sequence[Field], Sequence[Any]],
    params: tuple[Sequence[Field], Sequence[Any]],
) -> Asked:
    """What a filled form asks. Raises `Blank`."""
    if not model:
        raise Blank("No model is chosen.")
    files = {
        field.name: Path(value).name
        for field, value in zip(*inputs, strict=True)
        if field.word == "image" and value
    }
    return Asked(door, model, task, read(*inputs), read(*params), files)


async def answer(client: Client, asked: Asked) -> tuple[Any, str]:
    """The answer's JSON, and what the task's view shows. Raises `Refusal`."""
    told = await client.ask(asked.model, asked.task, asked.item, asked.params)
    related = await _related(client, asked)
    try:
        shown = await asyncio.to_thread(views.show, asked.task, asked.item, told, related)
    except Exception as unexpected:
        raise Refusal("The answer came, but this page cannot draw it.") from unexpected
    return told, shown


async def text(client: Client, asked: Asked) -> AsyncIterator[tuple[dict[str, Any], str]]:
    """The last event and the text so far, a few times a second while it grows. Raises `Refusal`."""
    so_far, shown_at, event = "", 0.0, {}
    async for event in client.stream(asked.model, asked.task, asked.item, asked.params):
        token = event.get("token") or {}
        so_far += "" if token.get("special") else token.get("text", "")
        so_far = event.get("generated_text") or so_far
        if time.monotonic() - shown_at > PACE:
            yield event, so_far
            shown_at = time.monotonic()
    yield event, so_far


def notice(sentence: str, kind: str = "error") -> str:
    """A sentence where it happened; nothing for none."""
    role = "alert" if kind == "error" else "status"
    return f'<p class="notice {kind}" role="{role}">{escape(sentence)}</p>' if sentence else ""


def refusal(error: Exception) -> str:
    """What went wrong as a notice; what nobody foresaw is logged and not quoted."""
    if isinstance(error, Blank):
        return notice(str(error), "quiet")
    if not isinstance(error, Refusal):
        log.error("a question failed", exc_info=error)
        return notice("This page could not ask that; the reason is in its log.")
    return notice(str(error))


async def _related(client: Client, asked: Asked) -> list[list[float]]:
    """Vectors of all the item's texts, where leaving out the one they are compared with brings them."""
    item = _comparable(asked.task, asked.item)
    if item is None:
        return []
    try:
        vectors = await client.ask(asked.model, asked.task, item, asked.params)
    except Refusal:
        return []  # the answer itself came: it is shown without
    return vectors if views.element(asked.task.output, vectors) is Vector else []


def _comparable(task: Task, item: Mapping[str, Any]) -> dict[str, Any] | None:
    means = words(task.input)
    lone = [name for name, field in task.input.model_fields.items() if not field.is_required()]
    lone = [name for name in lone if means[name] == "text" and name in item]
    many = [name for name in item if means[name] == "texts"]
    if len(lone) != 1 or len(many) != 1:
        return None
    return {many[0]: [item[lone[0]], *item[many[0]]]}
