"""Type a task's requests and answers in the Hub's form, for OpenAPI."""

from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from deployments.task import Task
from deployments.wire.huggingface.errors import HubFailure
from deployments.wire.task_json import example_request, hub_json_types, input_layout


class HuggingFaceOptions(BaseModel):
    """How a request is treated. Nothing is cached here, whatever `use_cache` says."""

    wait_for_model: bool = Field(True, description="Wait while the model loads, instead of HTTP 503 at once.")
    use_cache: bool = True


def request_type(task: Task) -> type[BaseModel]:
    """The JSON body of a request to the task."""
    item: Any = task.input
    written = input_layout(task.input)
    if written.single_field:
        field = task.input.model_fields[written.single_field]
        item = Annotated[field.annotation, field] | item
    if written.single_type == "conversation":
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
        __config__=ConfigDict(json_schema_extra={"examples": [example_request(task)]}),
        **fields,
    )


def answer_type(task: Task) -> type[BaseModel]:
    """The JSON answer to a request: an item's answer, or a list with one per item, some of them failures."""
    item: Any = reduce(or_, hub_json_types(task.output))
    lone = list[item] if task.single_output_in_list else item
    return create_model(
        f"HuggingFace{task.title}Answer",
        __base__=RootModel[lone | list[item | HubFailure]],  # type: ignore[valid-type]
        __doc__="The answer to a lone item, or a list that holds each item's.",
    )


def operation_types(task: Task) -> dict[str, Any]:
    """How OpenAPI types the performing of a task."""
    raw_body = "image/*" if input_layout(task.input).image_field else None
    return {
        "body": request_type(task),
        "response": answer_type(task),
        "raw_body": raw_body,
        "event": task.chunk,
    }


def any_of(types: list[dict[str, Any]]) -> dict[str, Any]:
    """How OpenAPI types the performing of whichever task a model has."""
    return {
        "body": _union("HuggingFaceRequest", [each["body"] for each in types]),
        "response": _union("HuggingFaceAnswer", [each["response"] for each in types]),
        "raw_body": next((each["raw_body"] for each in types if each["raw_body"]), None),
        "event": _union("HuggingFaceEvent", [each["event"] for each in types if each["event"]]),
    }


def _union(name: str, types: list[Any]) -> type[BaseModel] | None:
    if not types:
        return None
    either: Any = reduce(or_, types)
    return create_model(name, __base__=RootModel[either])
