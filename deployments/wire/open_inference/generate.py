"""Handlers of Triton's generate routes, whole or streamed: one text in, one text out, no tensors."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, create_model
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import InferenceError, InvalidInput, TaskMismatch
from deployments.schema import Schema
from deployments.task import TASKS, Task
from deployments.wire.http import json_response, read_body
from deployments.wire.open_inference.bodies import parse_body
from deployments.wire.open_inference.errors import Failure
from deployments.wire.open_inference.parameters import GENERATE_IGNORED, GENERATE_NEUTRAL, generate_params
from deployments.wire.open_inference.service import DIALECT, find_task, stream_text
from deployments.wire.open_inference.types import GenerateRequest, GenerateResponse
from deployments.wire.sse import event_stream
from deployments.wire.task_json import input_layout

if TYPE_CHECKING:
    from deployments.routing.router import Router

BAD_WORDS: dict[str, Any] = {"enum": [None, "", []]}
SCHEMA_REFERENCE = "#/components/schemas/{model}"
ALIASES = {"max_tokens": "max_new_tokens", "stop_words": "stop"}
"""This protocol's names of parameters, unless the task has a parameter of the same name."""
TEXT_LISTS = ("bad_words", "stop_words")
"""TensorRT-LLM's lists of texts: a single text is a list of one, and empty texts are left out."""


def can_generate(task: Task) -> bool:
    """Return whether the task generates text from a text or a conversation alone."""
    single_type = input_layout(task.input).single_type
    return single_type in ("text", "conversation") and "generated_text" in task.output.model_fields


def can_stream(task: Task) -> bool:
    """Return whether the task can stream the generated text by token."""
    return can_generate(task) and task.chunk is not None and "token" in task.chunk.model_fields


def example_body(task: Task) -> dict[str, Any]:
    """Return a valid request to a task that `can_generate`."""
    value = task.examples()[0][input_layout(task.input).single_field or ""]
    return {"text_input": value if isinstance(value, str) else value[-1]["content"]}


def request_type() -> type[GenerateRequest]:
    """Return the type of a request with the parameters of every task that generates text, for OpenAPI."""
    params = _described_params()
    anywhere = {"properties": params, "additionalProperties": {"type": "null"}}

    def describe(schema: dict[str, Any]) -> None:
        parameters = {"anyOf": [{"type": "object", **anywhere}, {"type": "null"}]}
        schema.update(anywhere, properties={**params, **schema["properties"], "parameters": parameters})

    return create_model(
        "GenerateTextRequest",
        __base__=GenerateRequest,
        __doc__=GenerateRequest.__doc__,
        __config__=ConfigDict(json_schema_extra=describe),
    )


def _described_params() -> dict[str, Any]:
    """Return the JSON schema of each parameter by its name: the tasks' and this protocol's."""
    params: dict[str, Any] = {"bad_words": BAD_WORDS}
    params |= {name: {"enum": [None, value]} for name, value in GENERATE_NEUTRAL.items()}
    params |= {name: {"description": "Has no effect."} for name in sorted(GENERATE_IGNORED)}
    for task in filter(can_generate, TASKS.values()):
        schema = task.params.model_json_schema(ref_template=SCHEMA_REFERENCE)
        params |= schema.get("properties", {})
    aliases = {alias: name for alias, name in ALIASES.items() if name in params}
    return params | {alias: _described_alias(alias, params[name]) for alias, name in aliases.items()}


def _described_alias(alias: str, param: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of a parameter with this protocol's name."""
    if alias not in TEXT_LISTS:
        return param
    text = {**param.get("items", {}), "minLength": 0}
    texts = {key: value for key, value in param.items() if key in ("type", "maxItems")}
    return {"anyOf": [text, {**texts, "items": text}, {"type": "null"}]}


async def generate(router: "Router", request: Request) -> Response:
    """Respond with the whole generated text."""
    model_id, _, input, params = await _parse_request(router, request)
    (output,) = await router.infer(model_id, [input], params)
    if isinstance(output, InferenceError):
        raise output
    return json_response(_response(model_id, output.generated_text).model_dump())


async def generate_stream(router: "Router", request: Request) -> Response:
    """Stream the generated text as server-sent events, one per part of the text."""
    model_id, task, input, params = await _parse_request(router, request)
    if not can_stream(task):
        raise InvalidInput(f"the task {task.name} cannot stream; use `generate`")

    def encode_part(part: tuple[str, bool]) -> bytes:
        return _response(model_id, part[0]).model_dump_json().encode()

    return await event_stream(
        request, stream_text(router, model_id, input, params), encode_part, _encode_error
    )


async def _parse_request(router: "Router", request: Request) -> tuple[str, Task, Schema, Schema]:
    model_id = request.path_params["model_id"]
    task = find_task(router, model_id, request.path_params.get("version", ""))
    field = input_layout(task.input).single_field
    if field is None or not can_generate(task):
        raise TaskMismatch(f"the model {model_id!r} performs {task.name}, which cannot continue a text")
    body = parse_body(GenerateRequest, await read_body(request))
    params = _rename_params(task, {**(body.model_extra or {}), **(body.parameters or {})})
    items = [{field: body.text_input}]
    (input,), validated = await router.validator.validate(task, DIALECT, items, params)
    return model_id, task, input, validated


def _rename_params(task: Task, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters by the task's names, without those that change nothing."""
    params = {name: _text_list(value) if name in TEXT_LISTS else value for name, value in params.items()}
    known = task.params.model_fields
    return {
        name if name in known else ALIASES.get(name, name): value
        for name, value in generate_params(task, params).items()
    }


def _text_list(value: Any) -> Any:
    """Return the texts of a list that are not empty, or None if there are none."""
    texts = [value] if isinstance(value, str) else value
    return [text for text in texts if text != ""] or None if isinstance(texts, list) else texts


def _response(model_id: str, text: str) -> GenerateResponse:
    return GenerateResponse(model_name=model_id, text_output=text)


def _encode_error(error: InferenceError) -> bytes:
    return Failure(error=str(error)).model_dump_json().encode()
