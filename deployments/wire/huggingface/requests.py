"""Read requests in the Hub's form: the items under "inputs", their parameters and their options."""

from collections.abc import Mapping
from types import NoneType
from typing import Any, NamedTuple

from deployments.errors import InvalidInput, TooLarge
from deployments.schema import MAX_ITEMS
from deployments.task import Task
from deployments.wire.http import UnsupportedMedia, read_json
from deployments.wire.task_json import input_layout

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
    written = input_layout(task.input)
    if not _holds_json(task, content_type, body):
        return Asked([{written.image_field: body}])
    told = read_json(body)
    if not isinstance(told, dict) or told.get("inputs") is None:
        raise InvalidInput('the body is a JSON object with "inputs"', field="inputs")
    batch = written.is_batch(told["inputs"])
    values = told["inputs"] if batch else [told["inputs"]]
    if len(values) > MAX_ITEMS:
        raise TooLarge(
            f"the list has {len(values):,} inputs; at most {MAX_ITEMS:,} are accepted", field="inputs"
        )
    if not values:
        raise InvalidInput("the list of inputs is empty", field="inputs")
    return Asked(
        [written.to_fields(value) for value in values],
        batch,
        _params(task, told),
        _flag(told, "stream", False),
        _flag(_object(told, "options"), "wait_for_model", True),
    )


def _holds_json(task: Task, content_type: str, body: bytes) -> bool:
    media = content_type.partition(";")[0].strip().lower()
    reads_pictures = input_layout(task.input).image_field is not None
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
        raise InvalidInput(f"`{name}` is an object", field=name)
    return value or {}


def _flag(told: dict[str, Any], name: str, default: bool) -> bool:
    value = told.get(name)
    if not isinstance(value, bool | NoneType):
        raise InvalidInput(f"`{name}` is true or false", field=name)
    return default if value is None else value
