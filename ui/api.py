"""The page's own endpoints, one per task by its name: what `gradio_client` lists and calls."""

import base64
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from deployments.schema import Schema, words
from deployments.task import Task
from ui.client import Client, Refusal
from ui.live_models import Board

TYPES: dict[str, Any] = {
    "text": str,
    "string": str,
    "image": dict,
    "texts": list[str],
    "array": list[str],
    "integer": int,
    "number": float,
    "boolean": bool,
    "conversation": list[dict[str, str]],
}


def endpoint(task: Task, client: Client, board: Board) -> Callable[..., Any]:
    """A function with the task's fields, then its parameters, then `model`; it returns the answer's JSON."""

    async def call(*values: Any) -> Any:
        given = dict(zip(call.__signature__.parameters, values, strict=False))  # type: ignore[attr-defined]
        model = given.pop("model", None) or next(iter((await board.look()).ready(task.name)), None)
        if not model:
            raise gr.Error(f"No model for {task.name} is ready.", print_exception=False)
        told = {name: value for name, value in given.items() if value is not None}
        item = {name: _sent(value) for name, value in told.items() if name in task.input.model_fields}
        params = {name: value for name, value in told.items() if name in task.params.model_fields}
        try:
            return await client.ask(model, task, item, params)
        except Refusal as refused:
            raise gr.Error(str(refused), print_exception=False) from None

    parameters = [*_parameters(task.input), *_parameters(task.params), _parameter("model", str, None)]
    parameters.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
    call.__signature__ = inspect.Signature(parameters, return_annotation=Any)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": dict}
    call.__name__, call.__doc__ = task.name, task.summary
    return call


def _parameters(schema: type[Schema]) -> list[inspect.Parameter]:
    means = words(schema)
    return [
        _parameter(
            name, TYPES.get(means[name], Any), inspect.Parameter.empty if field.is_required() else None
        )
        for name, field in schema.model_fields.items()
    ]


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)


def _sent(value: Any) -> Any:
    """A picture that was uploaded, as base64; no other file of the server is opened."""
    if not isinstance(value, dict) or "path" not in value:
        return value
    path = Path(value["path"]).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()):
        raise gr.Error("Only an uploaded file can be sent.", print_exception=False)
    return base64.b64encode(path.read_bytes()).decode()
