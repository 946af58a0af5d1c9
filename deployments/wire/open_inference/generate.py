"""Triton's way to ask for generated text, whole or streamed: no tensors, one text in and one out."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import InferenceError, InvalidInput, TaskMismatch
from deployments.schema import Schema
from deployments.task import Task
from deployments.wire.compression import read_inflated
from deployments.wire.http import json_response
from deployments.wire.open_inference.bodies import parse
from deployments.wire.open_inference.errors import Failure
from deployments.wire.open_inference.service import NAME, find_task, pieces
from deployments.wire.open_inference.types import GenerateRequest, GenerateResponse
from deployments.wire.sse import event_stream
from deployments.wire.task_json import form

if TYPE_CHECKING:
    from deployments.routing.router import Router

ALIASES = {"max_tokens": "max_new_tokens", "stop_words": "stop"}
"""What clients of this protocol call a parameter, where the task has none of that name."""
WORDS = ("bad_words", "stop_words")
"""TensorRT-LLM's lists of texts: a lone text is a list of one, and an empty one stands for none."""


def generates(task: Task) -> bool:
    """Whether the task goes on from a text: that, or a conversation, is all it needs."""
    return form(task.input).word in ("text", "conversation") and "generated_text" in task.output.model_fields


def streams(task: Task) -> bool:
    """Whether it can do so token by token."""
    return generates(task) and task.chunk is not None and "token" in task.chunk.model_fields


def example(task: Task) -> dict[str, Any]:
    """A request that works, for a task that `generates`."""
    value = task.examples()[0][form(task.input).lone or ""]
    return {"text_input": value if isinstance(value, str) else value[-1]["content"]}


async def generate(router: "Router", request: Request) -> Response:
    """Tell the whole text."""
    model_id, _, input, params = await _read(router, request)
    (answer,) = await router.infer(model_id, [input], params)
    if isinstance(answer, InferenceError):
        raise answer
    return json_response(_said(model_id, answer.generated_text))


async def generate_stream(router: "Router", request: Request) -> Response:
    """Tell each piece of the text as a server-sent event; together they are what `generate` tells."""
    model_id, task, input, params = await _read(router, request)
    if not streams(task):
        raise InvalidInput(f"an answer of {task.name} cannot stream")

    def encode_piece(piece: tuple[str, bool]) -> bytes:
        return GenerateResponse(model_name=model_id, text_output=piece[0]).model_dump_json().encode()

    return await event_stream(request, pieces(router, model_id, input, params), encode_piece, _say_error)


async def _read(router: "Router", request: Request) -> tuple[str, Task, Schema, Schema]:
    model_id = request.path_params["model_id"]
    task = find_task(router, model_id, request.path_params.get("version", ""))
    field = form(task.input).lone
    if field is None or not generates(task):
        raise TaskMismatch(f"the model {model_id!r} performs {task.name}, which goes on from no text")
    asked = parse(GenerateRequest, await read_inflated(request))
    params = _params(task, {**(asked.model_extra or {}), **(asked.parameters or {})})
    (input,), chosen = await router.validator.validate(task, NAME, [{field: asked.text_input}], params)
    return model_id, task, input, chosen


def _params(task: Task, given: Mapping[str, Any]) -> dict[str, Any]:
    """The task's own names; `stream` is said by the path."""
    given = {name: _words(value) if name in WORDS else value for name, value in given.items()}
    own = task.params.model_fields
    return {
        name if name in own else ALIASES.get(name, name): value
        for name, value in given.items()
        if value is not None and name != "stream"
    }


def _words(value: Any) -> Any:
    """The texts of a list that are not empty; None if there is none of them."""
    words = [value] if isinstance(value, str) else value
    return [word for word in words if word != ""] or None if isinstance(words, list) else words


def _said(model_id: str, text: str) -> dict[str, Any]:
    return GenerateResponse(model_name=model_id, text_output=text).model_dump()


def _say_error(error: InferenceError) -> bytes:
    return Failure(error=str(error)).model_dump_json().encode()
