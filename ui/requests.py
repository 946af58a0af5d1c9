"""Requests from the forms to the gateway, and notices about their failures."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from deployments.schema import Vector, field_types
from deployments.task import Task
from ui import outputs
from ui.client import GatewayClient, RequestFailed
from ui.forms import Field, MissingInput, parse_form
from ui.snippets import GatewayAddress, InferenceRequest

log = logging.getLogger(__name__)

STREAM_UPDATE_S = 0.05  # minimum time between two updates of a streamed text
GRPC_PORT = 9000


class AddressResolver:
    """The gateway's address for the code snippets.

    It is `url`, or with `behind_gateway` the address in the browser, because the gateway serves the page.
    """

    def __init__(self, url: str, *, behind_gateway: bool = False, grpc_port: int = GRPC_PORT) -> None:
        self.url, self.behind_gateway, self.grpc_port = url.rstrip("/"), behind_gateway, grpc_port

    def resolve(self, page_request: gr.Request | None) -> GatewayAddress:
        """Return the gateway's address for the browser that sent `page_request`."""
        http = _origin(page_request) if self.behind_gateway and page_request else self.url
        host = urlsplit(http).hostname or "localhost"
        return GatewayAddress(http, f"{f'[{host}]' if ':' in host else host}:{self.grpc_port}")


def _origin(page_request: gr.Request) -> str:
    """Return scheme and host of the page in the browser, also behind a reverse proxy."""
    headers = page_request.headers
    scheme = headers.get("x-forwarded-proto", page_request.url.scheme).split(",")[0].strip()
    host = headers.get("x-forwarded-host", headers.get("host", "localhost")).split(",")[0].strip()
    return f"{scheme}://{host}"


def build_request(
    task: Task,
    address: GatewayAddress,
    model: str | None,
    inputs: tuple[Sequence[Field], Sequence[Any]],
    params: tuple[Sequence[Field], Sequence[Any]],
) -> InferenceRequest:
    """Build the request of a form from its fields and their widgets' values. Raises `MissingInput`."""
    if not model:
        raise MissingInput("No model is selected.")
    files = {
        field.name: Path(value).name
        for field, value in zip(*inputs, strict=True)
        if field.schema_type == "image" and value
    }
    return InferenceRequest(address, model, task, parse_form(*inputs), parse_form(*params), files)


async def fetch_output(client: GatewayClient, request: InferenceRequest) -> tuple[Any, str]:
    """Return the output's JSON and its rendering. Raises `RequestFailed`."""
    output = await client.infer(request.model, request.task, request.item, request.params)
    related = await _fetch_related_vectors(client, request)
    try:
        rendering = await asyncio.to_thread(outputs.render, request.task, request.item, output, related)
    except Exception as error:
        raise RequestFailed("The UI cannot display the output of the model.") from error
    return output, rendering


async def stream_text(
    client: GatewayClient, request: InferenceRequest
) -> AsyncIterator[tuple[dict[str, Any], str]]:
    """Yield the last event and the text so far, at most every `STREAM_UPDATE_S`. Raises `RequestFailed`."""
    text, updated_at, event = "", 0.0, {}
    async for event in client.stream_events(request.model, request.task, request.item, request.params):
        token = event.get("token") or {}
        text += "" if token.get("special") else token.get("text", "")
        text = event.get("generated_text") or text
        if time.monotonic() - updated_at > STREAM_UPDATE_S:
            yield event, text
            updated_at = time.monotonic()
    yield event, text


def notice(sentence: str, level: str = "error") -> str:
    """Return the HTML of a notice of level "error" or "info"; an empty sentence gives an empty string."""
    role = "alert" if level == "error" else "status"
    return f'<p class="notice {level}" role="{role}">{escape(sentence)}</p>' if sentence else ""


def error_notice(error: Exception) -> str:
    """Return a notice for the error; an unexpected error is logged, and its text is not shown."""
    if isinstance(error, MissingInput):
        return notice(str(error), "info")
    if not isinstance(error, RequestFailed):
        log.error("The UI failed to process a request", exc_info=error)
        return notice("The UI failed to process the request. The cause is in the log of the UI.")
    return notice(str(error))


async def _fetch_related_vectors(client: GatewayClient, request: InferenceRequest) -> list[list[float]]:
    """Return the vectors of all texts of the item, if the task returns vectors without a text to compare."""
    item = _comparison_item(request.task, request.item)
    if item is None:
        return []
    try:
        vectors = await client.infer(request.model, request.task, item, request.params)
    except RequestFailed:
        return []  # the output itself is complete: it is shown without the matrix
    return vectors if outputs.element_type(request.task.output, vectors) is Vector else []


def _comparison_item(task: Task, item: Mapping[str, Any]) -> dict[str, Any] | None:
    """Move the item's only optional text to the front of its only list of texts; None for other items."""
    types = field_types(task.input)
    optional = [name for name, field in task.input.model_fields.items() if not field.is_required()]
    texts = [name for name in optional if types[name] == "text" and name in item]
    lists = [name for name in item if types[name] == "texts"]
    if len(texts) != 1 or len(lists) != 1:
        return None
    return {lists[0]: [item[texts[0]], *item[lists[0]]]}
