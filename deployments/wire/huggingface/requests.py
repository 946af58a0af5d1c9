"""The Hub's way of writing a task down: what stands under "inputs", and what an output becomes.

Read off the task's own fields, so that every task has its form, and the types of both for OpenAPI.
"""

from collections.abc import Mapping
from functools import reduce
from operator import or_
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from deployments.errors import InvalidInput, TooLarge
from deployments.schema import MAX_ITEMS
from deployments.task import Task
from deployments.wire.http import UnsupportedMedia, read_json
from deployments.wire.task_json import example, form, said_types

RESERVED = {"inputs", "parameters", "stream", "options"}
# Parameters of the Hub's clients at the values at which they ask for nothing: then any task may ignore them.
NEUTRAL: dict[str, Any] = {
    "best_of": 1,
    "decoder_input_details": False,
    "encoding_format": "float",
    "return_full_text": False,
    "watermark": False,
}
UNTOLD = {"", "application/octet-stream", "application/x-www-form-urlencoded"}


class HubFailure(BaseModel):
    """An error, as the Hub says it: a whole answer, or one item's place in a list."""

    error: str
    error_type: Literal["validation", "overloaded", "generation", "incomplete_generation"] | None = None
    estimated_time: float | None = Field(None, description="Seconds until a loading model may answer.")


class HuggingFaceOptions(BaseModel):
    """How a request is treated. Nothing is cached here, whatever `use_cache` says."""

    wait_for_model: bool = Field(True, description="Wait while the model loads, instead of HTTP 503 at once.")
    use_cache: bool = True


class Asked(NamedTuple):
    """One request: its items, whether they came as a list, and what holds for all of them.

    `wait`: whether it may be held while the model loads.
    """

    items: list[Any]
    batch: bool = False
    params: Mapping[str, Any] = {}
    stream: bool = False
    wait: bool = True


def read(task: Task, content_type: str, body: bytes) -> Asked:
    """The request that a body holds. Raises `InvalidInput`, `UnsupportedMedia`, `TooLarge`."""
    written = form(task.input)
    if not _holds_json(task, content_type, body):
        return Asked([{written.picture: body}])
    told = read_json(body)
    if not isinstance(told, dict) or told.get("inputs") is None:
        raise InvalidInput('the body is a JSON object with "inputs"')
    batch = written.is_batch(told["inputs"])
    values = told["inputs"] if batch else [told["inputs"]]
    if len(values) > MAX_ITEMS:
        raise TooLarge(f"the list has {len(values):,} inputs; at most {MAX_ITEMS:,} are accepted")
    if not values:
        raise InvalidInput("the list of inputs is empty")
    return Asked(
        [written.item(value) for value in values],
        batch,
        _params(task, told),
        _flag(told, "stream", False),
        _flag(_object(told, "options"), "wait_for_model", True),
    )


def request_type(task: Task) -> type[BaseModel]:
    """The JSON body of a request to the task."""
    item: Any = task.input
    written = form(task.input)
    if written.lone:
        field = task.input.model_fields[written.lone]
        item = Annotated[field.annotation, field] | item
    if written.word == "conversation":
        item = str | item
    fields: dict[str, Any] = {
        "inputs": (item | list[item], ...),
        "parameters": (task.params | None, None),
        "options": (HuggingFaceOptions | None, None),
    }
    if task.chunk:
        fields["stream"] = (bool, False)
    return create_model(
        f"HuggingFace{task.title}Request",
        __doc__=f"{task.summary} `inputs` is one item or a list of them.",
        __config__=ConfigDict(json_schema_extra={"examples": [example(task)]}),
        **fields,
    )


def answer_type(task: Task) -> type[BaseModel]:
    """The JSON answer to a request: an item's answer, or a list with one per item, some of them failures."""
    item: Any = reduce(or_, said_types(task.output))
    lone = list[item] if task.lone_answer_in_list else item
    return create_model(
        f"HuggingFace{task.title}Answer",
        __base__=RootModel[lone | list[item | HubFailure]],  # type: ignore[valid-type]
        __doc__="The answer to a lone item, or a list that holds each item's.",
    )


def _holds_json(task: Task, content_type: str, body: bytes) -> bool:
    media = content_type.partition(";")[0].strip().lower()
    reads_pictures = form(task.input).picture is not None
    if media == "application/json" or media.endswith("+json"):
        return True
    if media in UNTOLD:
        return not reads_pictures or body.lstrip()[:1] == b"{"
    if reads_pictures and media.startswith("image/"):
        return False
    readable = "application/json or a picture" if reads_pictures else "application/json"
    raise UnsupportedMedia(f"the Content-Type {media!r} is not understood; {task.name} reads {readable}")


def _params(task: Task, told: dict[str, Any]) -> dict[str, Any]:
    """`parameters`, and for feature-extraction's sake whatever else stands beside `inputs`."""
    beside = {name: value for name, value in told.items() if name not in RESERVED}
    return {
        name: value
        for name, value in (beside | _object(told, "parameters")).items()
        if value is not None and (name in task.params.model_fields or NEUTRAL.get(name) != value)
    }


def _object(told: dict[str, Any], name: str) -> dict[str, Any]:
    value = told.get(name)
    if not isinstance(value, dict | NoneType):
        raise InvalidInput(f"`{name}` is an object")
    return value or {}


def _flag(told: dict[str, Any], name: str, default: bool) -> bool:
    value = told.get(name)
    if not isinstance(value, bool | NoneType):
        raise InvalidInput(f"`{name}` is true or false")
    return default if value is None else value
