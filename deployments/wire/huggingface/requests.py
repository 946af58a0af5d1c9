"""The Hub's way of writing a task down: what stands under "inputs", and what an output becomes.

Read off the task's own fields, so that every task has its form, and the types of both for OpenAPI.
"""

from collections.abc import Mapping
from functools import lru_cache, reduce
from operator import or_
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from deployments.dialect import UnsupportedMedia, read_json
from deployments.errors import InvalidInput, TooLarge
from deployments.schema import MAX_ITEMS, Schema, Vector, words
from deployments.task import Task

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


class Form(NamedTuple):
    """How a task's Input is written.

    `lone` is the field that a bare value fills: the only required one; `word` is what it means. `picture` is
    the field that a raw body fills.
    """

    fields: frozenset[str]
    lone: str | None
    word: str | None
    picture: str | None

    def item(self, value: Any) -> Any:
        """One item's fields."""
        if isinstance(value, dict) and not self.fields.isdisjoint(value):
            return value
        if self.lone is None:
            raise InvalidInput(f"`inputs` is an object with the fields {', '.join(sorted(self.fields))}")
        return {self.lone: value}

    def is_batch(self, inputs: Any) -> bool:
        """Whether a list holds a value per item, and is not itself the value of a field that holds lists."""
        if not isinstance(inputs, list):
            return False
        if self.word not in ("texts", "conversation", "array") or not inputs:
            return True
        first = inputs[0]
        if isinstance(first, dict):
            return not self.fields.isdisjoint(first)
        return isinstance(first, list) or (isinstance(first, str) and self.word == "conversation")


class Asked(NamedTuple):
    """One request: its items, whether they came as a list, and what holds for all of them.

    `wait`: whether it may be held while the model loads.
    """

    items: list[Any]
    batch: bool = False
    params: Mapping[str, Any] = {}
    stream: bool = False
    wait: bool = True


@lru_cache
def form(input_: type[Schema]) -> Form:
    """Read off an Input's fields how it is written."""
    meanings = words(input_)
    required = [name for name, field in input_.model_fields.items() if field.is_required()] or list(meanings)
    lone = required[0] if len(required) == 1 else None
    pictures = [name for name, word in meanings.items() if word == "image"]
    picture = pictures[0] if len(pictures) == 1 else None
    return Form(frozenset(meanings), lone, meanings[lone] if lone else None, picture)


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


def said(output: Schema) -> Any:
    """An output as the Hub says it: the list that comes first in it, or else the whole object."""
    name, value = next(((name, value) for name, value in output if value is not None), ("", None))
    if not isinstance(value, list):
        return {name: told for name, told in output.model_dump(mode="json").items() if told is not None}
    if value and isinstance(value[0], Vector):
        return [vector.values for vector in value]
    if not value or not isinstance(value[0], Schema):  # numbers, of which there may be thousands
        return value
    return output.model_dump(mode="json", include={name})[name]


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
    item: Any = reduce(or_, _said_types(task.output))
    lone = list[item] if task.lone_answer_in_list else item
    return create_model(
        f"HuggingFace{task.title}Answer",
        __base__=RootModel[lone | list[item | HubFailure]],  # type: ignore[valid-type]
        __doc__="The answer to a lone item, or a list that holds each item's.",
    )


def example(task: Task) -> dict[str, Any]:
    """The JSON body of a request that the task can answer."""
    fields = task.examples()[0]
    bare = len(fields) == 1 and form(task.input).lone in fields
    return {"inputs": next(iter(fields.values())) if bare else fields}


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


def _said_types(output: type[Schema]) -> list[Any]:
    """What `said` may make of an output, field by field."""
    types: list[Any] = []
    for field in output.model_fields.values():
        optional = NoneType in get_args(field.annotation)
        type_ = (
            next(t for t in get_args(field.annotation) if t is not NoneType) if optional else field.annotation
        )
        if get_origin(type_) is not list:
            return [*types, output]
        types.append(list[list[float]] if type_ == list[Vector] else type_)
        if not optional:
            return types
    return types
