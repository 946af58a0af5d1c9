"""Parse requests in the Hub's form: the items under "inputs", their parameters and their options."""

from collections.abc import Mapping
from types import NoneType
from typing import Any, NamedTuple

from deployments.errors import InvalidInput, TooLarge
from deployments.schema import MAX_ITEMS
from deployments.task import Task
from deployments.wire.http import UnsupportedMedia, read_json, validate
from deployments.wire.huggingface.types import HuggingFaceOptions
from deployments.wire.request_fields import task_params
from deployments.wire.task_json import input_layout

RESERVED_FIELDS = {"inputs", "parameters", "stream", "options"}
# Parameters of the Hub's clients, with the value that changes nothing.
NEUTRAL_PARAMS: Mapping[str, Any] = {
    "best_of": 1,
    "decoder_input_details": False,
    "encoding_format": "float",
    "return_full_text": False,
    "watermark": False,
}
# Media types that say nothing about the body: none, and the defaults of HTTP clients and of curl.
UNSPECIFIC_MEDIA_TYPES = {"", "application/octet-stream", "application/x-www-form-urlencoded"}


class ParsedRequest(NamedTuple):
    """One request: its items, and the parameters and options for all of them.

    `batch`: the request has a list of items. `wait`: it may wait while the model loads.
    """

    items: list[Any]
    batch: bool = False
    params: Mapping[str, Any] = {}
    stream: bool = False
    wait: bool = True


def parse_request(task: Task, content_type: str, body: bytes) -> ParsedRequest:
    """Parse a request's body. Raises `InvalidInput`, `UnsupportedMedia`, `TooLarge`."""
    layout = input_layout(task.input)
    if not _is_json(task, content_type, body):
        return ParsedRequest([{layout.image_field: body}])
    request = read_json(body)
    if not isinstance(request, dict) or request.get("inputs") is None:
        raise InvalidInput('the body must be a JSON object with "inputs"', field="inputs")
    batch = layout.is_batch(request["inputs"])
    values = request["inputs"] if batch else [request["inputs"]]
    if len(values) > MAX_ITEMS:
        raise TooLarge(
            f"the list has {len(values):,} inputs; at most {MAX_ITEMS:,} are accepted", field="inputs"
        )
    if not values:
        raise InvalidInput("the list of inputs is empty", field="inputs")
    options = validate(HuggingFaceOptions, _object_field(request, "options"), "options")
    return ParsedRequest(
        [layout.to_fields(value) for value in values],
        batch,
        _params(task, request),
        _bool_field(request, "stream", False),
        options.wait_for_model is not False,
    )


def _is_json(task: Task, content_type: str, body: bytes) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    accepts_images = input_layout(task.input).image_field is not None
    if media_type == "application/json" or media_type.endswith("+json"):
        return True
    if media_type in UNSPECIFIC_MEDIA_TYPES:
        return not accepts_images or body.lstrip()[:1] == b"{"
    if accepts_images and media_type.startswith("image/"):
        return False
    accepted = "application/json or an image" if accepts_images else "application/json"
    raise UnsupportedMedia(f"unsupported Content-Type {media_type!r}; {task.name} accepts {accepted}")


def _params(task: Task, request: dict[str, Any]) -> dict[str, Any]:
    """Return `parameters` and other top-level fields: the Hub's client sends feature-extraction's there."""
    top_level = {name: value for name, value in request.items() if name not in RESERVED_FIELDS}
    params = top_level | _object_field(request, "parameters")
    return task_params(params, task.params.model_fields, neutral_values=NEUTRAL_PARAMS)


def _object_field(request: dict[str, Any], name: str) -> dict[str, Any]:
    value = request.get(name)
    if not isinstance(value, dict | NoneType):
        raise InvalidInput(f"`{name}` must be an object", field=name)
    return value or {}


def _bool_field(request: dict[str, Any], name: str, default: bool) -> bool:
    value = request.get(name)
    if not isinstance(value, bool | NoneType):
        raise InvalidInput(f"`{name}` must be true or false", field=name)
    return default if value is None else value
