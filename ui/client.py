"""HTTP client of the gateway: models, statistics, inference and streams.

Every failure raises `RequestFailed` with a sentence that the UI can display.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import orjson
from pydantic import TypeAdapter

from deployments.card import Card
from deployments.schema import field_types
from deployments.task import Task
from deployments.telemetry.truncation import HEADER as TRUNCATION_HEADER

CARDS = TypeAdapter(list[Card])
PLAIN_TYPES = ("text", "image", "string", "integer", "number", "boolean")
INFERENCE_TIMEOUT = httpx.Timeout(120, connect=5)
STATUS_TIMEOUT = httpx.Timeout(5)
UNREACHABLE = "The gateway is not reachable. Try again in a few seconds."
TIMED_OUT = "The model did not respond within 120 seconds. Try again, or send a smaller request."


class RequestFailed(Exception):
    """A request without a response, or with an error response; `str()` is a sentence for the user."""


class GatewayClient:
    """A client of the gateway at `url` that speaks the Hugging Face dialect.

    `notify` shows the user a sentence beside the output.
    """

    def __init__(
        self,
        url: str,
        transport: httpx.AsyncBaseTransport | None = None,
        notify: Callable[[str], object] = lambda sentence: None,
    ) -> None:
        self._notify = notify
        limits = httpx.Limits(max_connections=200)
        self.http = httpx.AsyncClient(
            base_url=url, timeout=INFERENCE_TIMEOUT, limits=limits, transport=transport
        )

    async def close(self) -> None:
        """Close the HTTP connections."""
        await self.http.aclose()

    async def fetch_cards(self) -> list[Card]:
        """Return every model, in any state. Raises `RequestFailed`."""
        return CARDS.validate_json(await self._get("/models"))

    async def fetch_stats(self) -> dict[str, dict[str, Any]]:
        """Return each model's statistics by model id, or nothing if the gateway has none."""
        try:
            stats = orjson.loads(await self._get("/status"))
        except (RequestFailed, orjson.JSONDecodeError):
            return {}
        return {model["id"]: model for model in stats}

    async def infer(self, model: str, task: Task, item: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
        """Return the model's output for one input, in the Hub's JSON. Raises `RequestFailed`."""
        try:
            response = await self.http.post(task_path(model, task), json=request_body(task, item, params))
        except httpx.HTTPError as error:
            raise _connection_failure(error) from error
        if response.is_error:
            raise _response_failure(response)
        if truncation := response.headers.get(TRUNCATION_HEADER):
            read, _, given = truncation.partition("/")
            self._notify(f"The input is longer than the model reads: it read {read} of {given} tokens.")
        output = orjson.loads(response.content)
        return output[0] if task.single_output_in_list else output

    async def stream_events(
        self, model: str, task: Task, item: Mapping[str, Any], params: Mapping[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of one streamed output. Raises `RequestFailed`, also after the first event."""
        body = request_body(task, item, params) | {"stream": True}
        try:
            async with self.http.stream("POST", task_path(model, task), json=body) as response:
                if response.is_error:
                    await response.aread()
                    raise _response_failure(response)
                async for line in response.aiter_lines():
                    if line.startswith("data:"):
                        yield _parse_event(line)
        except httpx.HTTPError as error:
            raise _connection_failure(error) from error

    async def _get(self, path: str) -> bytes:
        try:
            response = await self.http.get(path, timeout=STATUS_TIMEOUT)
        except httpx.HTTPError as error:
            raise _connection_failure(error) from error
        if response.is_error:
            raise _response_failure(response)
        return response.content


def task_path(model: str, task: Task) -> str:
    """Return the URL path where the model performs the task."""
    return f"/models/{model}/pipeline/{task.name}"


def request_body(task: Task, item: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Build the JSON body of a request.

    The only required field, if it has a plain value, becomes `inputs`; otherwise `inputs` holds all fields.
    """
    inputs: Any = dict(item)
    if len(item) == 1 and len(_required_fields(task)) == 1:
        (name,) = item
        inputs = item[name] if field_types(task.input)[name] in PLAIN_TYPES else inputs
    return {"inputs": inputs} | ({"parameters": dict(params)} if params else {})


def _required_fields(task: Task) -> list[str]:
    return [name for name, field in task.input.model_fields.items() if field.is_required()]


def _parse_event(line: str) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(line.removeprefix("data:"))
    if "error" in event:
        raise RequestFailed(to_sentence(event["error"]))
    return event


def _connection_failure(error: httpx.HTTPError) -> RequestFailed:
    return RequestFailed(TIMED_OUT if isinstance(error, httpx.ReadTimeout) else UNREACHABLE)


def _response_failure(response: httpx.Response) -> RequestFailed:
    """Build the failure from the response's error message and its `retry-after` header."""
    try:
        message = str(orjson.loads(response.content)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = f"The gateway returned HTTP status {response.status_code}"
    delay = response.headers.get("retry-after", "")
    hint = f" Try again in {_format_seconds(int(delay))}." if delay.isdigit() else ""
    return RequestFailed(to_sentence(message) + hint)


def to_sentence(message: str) -> str:
    """Capitalize the message and end it with a full stop."""
    message = " ".join(message.split())
    capitalized = message[:1].upper() + message[1:]
    return capitalized if capitalized.endswith((".", "!", "?")) else f"{capitalized}."


def _format_seconds(count: int) -> str:
    return "a second" if count == 1 else f"{count} seconds"
