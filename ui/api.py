"""API endpoints of the UI, one per task and named like it, for `gradio_client`."""

import base64
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from deployments.schema import Schema, field_types
from deployments.task import Task
from ui.client import GatewayClient, RequestFailed
from ui.live_models import LiveModels

PYTHON_TYPES: dict[str, Any] = {
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


def build_endpoint(task: Task, client: GatewayClient, live_models: LiveModels) -> Callable[..., Any]:
    """Build a function that takes the task's input fields, its parameters and `model`, and returns JSON.

    Without `model` it calls the first ready model of the task. It raises `gr.Error`.
    """

    async def endpoint(*values: Any) -> Any:
        names = endpoint.__signature__.parameters  # type: ignore[attr-defined]
        arguments = {k: v for k, v in zip(names, values, strict=False) if v is not None}
        model = arguments.pop("model", None) or await _first_ready_model(task, live_models)
        item = {k: _encode_upload(v) for k, v in arguments.items() if k in task.input.model_fields}
        params = {k: v for k, v in arguments.items() if k in task.params.model_fields}
        try:
            return await client.infer(model, task, item, params)
        except RequestFailed as error:
            raise gr.Error(str(error), print_exception=False) from None

    _set_signature(endpoint, task)
    return endpoint


async def _first_ready_model(task: Task, live_models: LiveModels) -> str:
    ready = (await live_models.get_snapshot()).ready_models(task.name)
    if not ready:
        raise gr.Error(f"No model for {task.name} is ready.", print_exception=False)
    return ready[0]


def _set_signature(function: Any, task: Task) -> None:
    """Give the function the name, the description and the parameters that gradio publishes."""
    parameters = [*_parameters(task.input), *_parameters(task.params), _parameter("model", str, None)]
    parameters.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
    annotations = {parameter.name: parameter.annotation for parameter in parameters}
    function.__signature__ = inspect.Signature(parameters, return_annotation=Any)
    function.__annotations__ = annotations | {"return": dict}
    function.__name__, function.__doc__ = task.name, task.summary


def _parameters(schema: type[Schema]) -> list[inspect.Parameter]:
    types = field_types(schema)
    return [
        _parameter(
            name, PYTHON_TYPES.get(types[name], Any), inspect.Parameter.empty if field.is_required() else None
        )
        for name, field in schema.model_fields.items()
    ]


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation
    )


def _encode_upload(value: Any) -> Any:
    """Encode an uploaded file as base64; return any other value unchanged.

    A path outside gradio's upload folder is refused: a caller must not read the server's files.
    """
    if not isinstance(value, dict) or "path" not in value:
        return value
    path = Path(value["path"]).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()):
        raise gr.Error("The file must be an uploaded file.", print_exception=False)
    return base64.b64encode(path.read_bytes()).decode()
