"""The Hugging Face dialect: what `huggingface_hub.InferenceClient` sends and reads, for every task.

    InferenceClient(model="http://127.0.0.1:8000/models/sentiment").text_classification("I loved it.")

A body is JSON, `{"inputs": ..., "parameters": {...}, "stream": false}`, or, for a task that reads a picture,
the picture itself. Without a Content-Type, or with curl's own, the body decides; a wrong one is HTTP 415.
"""

from functools import partial
from typing import Any

from deployments.card import Card
from deployments.dialect import Dialect, Operation, SupportedCall
from deployments.task import TASKS, Task
from deployments.wire.huggingface.errors import HubFailure, error_response
from deployments.wire.huggingface.handlers import NAME, perform
from deployments.wire.huggingface.models import Cards, check_health, list_models, show_info, show_model
from deployments.wire.huggingface.types import any_of, operation_types
from deployments.wire.model_info import Health, Info
from deployments.wire.task_json import example_request


def operations() -> list[Operation]:
    """What can be asked of any model, of a model of each task, and about models."""
    types = {task.name: operation_types(task) for task in TASKS.values()}
    generic = any_of(list(types.values()))
    return [
        Operation("POST", "/models/{model_id}", perform, "Perform a model's task", **generic),
        Operation("POST", "/models/{model_id}/pipeline/{task}", perform, "Perform the named task", **generic),
        Operation("POST", "/pipeline/{task}/{model_id}", perform, "Perform the named task", **generic),
        *(_typed(task, types[task.name]) for task in TASKS.values()),
        *_of_models(),
    ]


def _of_models() -> list[Operation]:
    """Return the operations that show models."""
    one = "/models/{model_id}"
    return [
        Operation("GET", "/models", list_models, "List every model", response=Cards),
        Operation("GET", one, show_model, "Show one model", response=Card),
        Operation("GET", f"{one}/health", check_health, "Tell whether a model answers", response=Health),
        Operation("GET", f"{one}/info", show_info, "Show a model's facts and limits", response=Info),
    ]


def supported_calls(task: Task, model_id: str) -> list[SupportedCall]:
    """Each path that performs the task, and where its answers can stream, streaming as well."""
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


def _typed(task: Task, types: dict[str, Any]) -> Operation:
    path = f"/models/{{model_id}}/pipeline/{task.name}"
    return Operation("POST", path, partial(perform, named=task.name), task.summary, **types)


dialect = Dialect(
    name=NAME,
    error_response=error_response,
    operations=operations,
    supported_calls=supported_calls,
    error=HubFailure,
    extra_error_responses={415: "a Content-Type that the task does not read"},
)
