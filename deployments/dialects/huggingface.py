"""The Hugging Face dialect: the protocol of `huggingface_hub.InferenceClient`, for every task.

    InferenceClient(model="http://127.0.0.1:8000/models/sentiment").text_classification("I loved it.")

A body is JSON, `{"inputs": ..., "parameters": {...}, "stream": false}`. For a task with an image as input,
the body may be the image itself. If the request has no Content-Type, or curl's default, the gateway detects
JSON from the body; an unsupported Content-Type is HTTP 415.
"""

from functools import partial
from typing import Any

from deployments.card import Card
from deployments.dialect import Dialect, Operation, SupportedCall
from deployments.task import TASKS, Task
from deployments.wire.huggingface.errors import HubFailure, error_response
from deployments.wire.huggingface.handlers import NAME, perform_task
from deployments.wire.huggingface.models import Cards, check_health, list_models, show_info, show_model
from deployments.wire.huggingface.types import IGNORED_OPTIONS, any_of, operation_types
from deployments.wire.model_info import Health, Info
from deployments.wire.task_json import example_request


def operations() -> list[Operation]:
    """Return the routes for any model, for a model of each task, and those that show models."""
    types = {task.name: operation_types(task) for task in TASKS.values()}
    any_task = any_of(list(types.values()))
    named = "Perform the named task"
    return [
        Operation("POST", "/models/{model_id}", perform_task, "Perform a model's task", **any_task),
        Operation("POST", "/models/{model_id}/pipeline/{task}", perform_task, named, **any_task),
        Operation("POST", "/pipeline/{task}/{model_id}", perform_task, named, **any_task),
        *(_task_operation(task, types[task.name]) for task in TASKS.values()),
        *_model_operations(),
    ]


def _task_operation(task: Task, types: dict[str, Any]) -> Operation:
    path = f"/models/{{model_id}}/pipeline/{task.name}"
    return Operation("POST", path, partial(perform_task, named=task.name), task.summary, **types)


def _model_operations() -> list[Operation]:
    model = "/models/{model_id}"
    return [
        Operation("GET", "/models", list_models, "List every model", response=Cards),
        Operation("GET", model, show_model, "Show one model", response=Card),
        Operation("GET", f"{model}/health", check_health, "Check whether a model is ready", response=Health),
        Operation("GET", f"{model}/info", show_info, "Show a model's facts and limits", response=Info),
    ]


def supported_calls(task: Task, model_id: str) -> list[SupportedCall]:
    """Return a call of each path that performs the task; if its outputs can stream, a streaming one too."""
    paths = (
        f"/models/{model_id}",
        f"/models/{model_id}/pipeline/{task.name}",
        f"/pipeline/{task.name}/{model_id}",
    )
    whole = [SupportedCall("POST", path, example_request(task)) for path in paths]
    streamed = [
        SupportedCall("POST", path, {**example_request(task), "stream": True}, streams=True) for path in paths
    ]
    return whole + (streamed if task.chunk else [])


dialect = Dialect(
    name=NAME,
    error_response=error_response,
    operations=operations,
    supported_calls=supported_calls,
    error=HubFailure,
    ignored_fields={f"options.{name}" for name in IGNORED_OPTIONS},
    extra_error_responses={
        415: "a Content-Type that the task does not accept; a Content-Encoding, except gzip and deflate"
    },
)
