"""The types of a task's requests and responses in the Hub's form, for OpenAPI."""

from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from deployments.media import MAX_BYTES
from deployments.schema import LIST_LIMITS, Text
from deployments.task import Task
from deployments.wire.huggingface.errors import HubFailure
from deployments.wire.request_fields import RequestObject
from deployments.wire.task_json import example_request, hub_json_types, input_layout

IGNORED_OPTIONS = frozenset(
    {
        "dont_load_model",  # the operator decides which models are loaded
        "retry_on_error",  # the client's own
        "use_cache",  # no response is cached
        "use_gpu",
    }
)
"""Options of the Hub's clients that are accepted with any value: they do not change the answer."""


class HuggingFaceOptions(RequestObject):
    """Options of a request."""

    ignored_fields = IGNORED_OPTIONS

    wait_for_model: bool | None = Field(
        True, strict=True, description="Wait while the model loads; if false, return HTTP 503 immediately."
    )


def request_type(task: Task) -> type[BaseModel]:
    """Return the type of a JSON request to the task."""
    item: Any = task.input
    layout = input_layout(task.input)
    if layout.single_field:
        field = task.input.model_fields[layout.single_field]
        item = Annotated[field.annotation, field] | item
    if layout.single_type == "conversation":
        item = Text | item
    fields: dict[str, Any] = {
        "inputs": (item | Annotated[list[item], Field(json_schema_extra=LIST_LIMITS)], ...),
        "parameters": (task.params | None, None),
        "options": (HuggingFaceOptions | None, None),
    }
    if task.chunk:
        fields["stream"] = (bool | None, False)
    return create_model(
        f"HuggingFace{task.title}Request",
        __doc__=f"{task.summary} `inputs` is one item or a list of them.",
        __config__=ConfigDict(extra="forbid", json_schema_extra={"examples": [example_request(task)]}),
        **fields,
    )


def response_type(task: Task) -> type[BaseModel]:
    """Return the type of a JSON response: an item's output, or a list with an output or an error per item."""
    item: Any = reduce(or_, hub_json_types(task.output))
    lone = list[item] if task.single_output_in_list else item
    return create_model(
        f"HuggingFace{task.title}Answer",
        __base__=RootModel[lone | list[item | HubFailure]],  # type: ignore[valid-type]
        __doc__="The output for a single item, or a list with an output or an error per item.",
    )


def operation_types(task: Task) -> dict[str, Any]:
    """Return the types of an operation that performs the task."""
    raw_body = "image/*" if input_layout(task.input).image_field else None
    return {
        "body": request_type(task),
        "response": response_type(task),
        "raw_body": raw_body,
        "raw_body_limit": MAX_BYTES,
        "event": task.chunk,
    }


def any_of(types: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the types of an operation that performs any of the tasks with these `types`."""
    return {
        "body": _union("HuggingFaceRequest", [operation["body"] for operation in types]),
        "response": _union("HuggingFaceAnswer", [operation["response"] for operation in types]),
        "raw_body": next((operation["raw_body"] for operation in types if operation["raw_body"]), None),
        "raw_body_limit": MAX_BYTES,
        "event": _union(
            "HuggingFaceEvent", [operation["event"] for operation in types if operation["event"]]
        ),
    }


def _union(name: str, types: list[Any]) -> type[BaseModel] | None:
    if not types:
        return None
    union: Any = reduce(or_, types)
    return create_model(name, __base__=RootModel[union])
