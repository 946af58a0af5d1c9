"""The router as the page sees it: the models there are, how they do, and their answers.

Whatever goes wrong is a `Refusal`: one sentence that can be shown as it is.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import orjson
from pydantic import TypeAdapter

from deployments.card import Card
from deployments.schema import words
from deployments.task import Task

CARDS = TypeAdapter(list[Card])
BARE = ("text", "image", "string", "integer", "number", "boolean")
ASKING = httpx.Timeout(120, connect=5)
LOOKING = httpx.Timeout(5)
GONE = "The router does not answer at the moment. Try again in a few seconds."


class Refusal(Exception):
    """A request that got no answer; `str()` is a sentence for the person who asked."""


class Client:
    """Speaks to the router at `url`, in the Hugging Face form."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        limits = httpx.Limits(max_connections=200)
        self.http = httpx.AsyncClient(base_url=url, timeout=ASKING, limits=limits, transport=transport)

    async def close(self) -> None:
        await self.http.aclose()

    async def cards(self) -> list[Card]:
        """Every model, in whatever state. Raises `Refusal`."""
        return CARDS.validate_json(await self._get("/models"))

    async def figures(self) -> dict[str, dict[str, Any]]:
        """How each model does, by its id; nothing where the router cannot tell."""
        try:
            found = orjson.loads(await self._get("/status"))
        except (Refusal, orjson.JSONDecodeError):
            return {}
        return {one["id"]: one for one in found}

    async def ask(self, model: str, task: Task, item: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
        """The answer to one item, as the Hub says it. Raises `Refusal`."""
        try:
            response = await self.http.post(path(model, task), json=body(task, item, params))
        except httpx.HTTPError as lost:
            raise _lost(lost) from lost
        if response.is_error:
            raise _refusal(response)
        answer = orjson.loads(response.content)
        return answer[0] if task.lone_answer_in_list else answer

    async def stream(
        self, model: str, task: Task, item: Mapping[str, Any], params: Mapping[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """The events of one answer as they come. Raises `Refusal`, also midway."""
        asked = body(task, item, params) | {"stream": True}
        try:
            async with self.http.stream("POST", path(model, task), json=asked) as response:
                if response.is_error:
                    await response.aread()
                    raise _refusal(response)
                async for line in response.aiter_lines():
                    if line.startswith("data:"):
                        yield _event(line)
        except httpx.HTTPError as lost:
            raise _lost(lost) from lost

    async def _get(self, url: str) -> bytes:
        try:
            response = await self.http.get(url, timeout=LOOKING)
        except httpx.HTTPError as lost:
            raise _lost(lost) from lost
        if response.is_error:
            raise _refusal(response)
        return response.content


def path(model: str, task: Task) -> str:
    """Where the model performs the task."""
    return f"/models/{model}/pipeline/{task.name}"


def body(task: Task, item: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a request: a lone plain value stands for itself, anything else for its fields."""
    inputs: Any = dict(item)
    if len(item) == 1 and len(_required(task)) == 1:
        (name,) = item
        inputs = item[name] if words(task.input)[name] in BARE else inputs
    return {"inputs": inputs} | ({"parameters": dict(params)} if params else {})


def _required(task: Task) -> list[str]:
    return [name for name, field in task.input.model_fields.items() if field.is_required()]


def _event(line: str) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(line.removeprefix("data:"))
    if "error" in event:
        raise Refusal(sentence(event["error"]))
    return event


def _lost(error: httpx.HTTPError) -> Refusal:
    if isinstance(error, httpx.ReadTimeout):
        return Refusal("No answer came within two minutes. Try again, or ask for less.")
    return Refusal(GONE)


def _refusal(response: httpx.Response) -> Refusal:
    """What the router said, and where it told so, when to try again."""
    try:
        told = str(orjson.loads(response.content)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        told = f"The router refused this with HTTP status {response.status_code}"
    wait = response.headers.get("retry-after", "")
    return Refusal(sentence(told) + (f" Try again in {_seconds(int(wait))}." if wait.isdigit() else ""))


def sentence(told: str) -> str:
    """What was told, with a capital and a full stop."""
    told = " ".join(told.split())
    capital = told[:1].upper() + told[1:]
    return capital if capital.endswith((".", "!", "?")) else f"{capital}."


def _seconds(count: int) -> str:
    return "a second" if count == 1 else f"{count} seconds"
