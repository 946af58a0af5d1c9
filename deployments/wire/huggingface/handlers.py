"""Perform a model's task for a caller of the Hugging Face dialect, whole or streamed."""

from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import InferenceError, InvalidInput, ModelNotReady, TaskMismatch
from deployments.schema import Schema
from deployments.task import Task
from deployments.wire.http import json_response, read_body
from deployments.wire.huggingface.errors import failure
from deployments.wire.huggingface.requests import Asked, read
from deployments.wire.model_info import loading_error
from deployments.wire.sse import event_stream
from deployments.wire.task_json import to_hub_json

if TYPE_CHECKING:
    from deployments.routing.router import Router

NAME = "huggingface"


async def perform(router: "Router", request: Request, *, named: str | None = None) -> Response:
    """Perform the model's task; where the path names one, it must be that.

    While the model loads, the request is held, unless its body or its header says that it will not wait.
    """
    model_id = request.path_params["model_id"]
    try:
        task = find(router, model_id, named or request.path_params.get("task"))
        asked = read(task, request.headers.get("content-type", ""), await read_body(request))
        impatient = not asked.wait or request.headers.get("x-wait-for-model") in ("false", "0")
        if impatient and router.card(model_id).state == "loading":
            raise loading_error(router.card(model_id))
        return await (stream if asked.stream else infer)(router, request, model_id, task, asked)
    except ModelNotReady as error:
        card = router.card(model_id)
        raise (loading_error(card) if card.state == "loading" else error) from None


async def infer(router: "Router", request: Request, model_id: str, task: Task, asked: Asked) -> Response:
    """Tell all answers at once, an error in the place of each that failed."""
    outcomes = await _outcomes(router, model_id, task, asked)
    answers = [failure(told) if isinstance(told, InferenceError) else to_hub_json(told) for told in outcomes]
    return json_response(answers if asked.batch or task.single_output_in_list else answers[0])


async def stream(router: "Router", request: Request, model_id: str, task: Task, asked: Asked) -> Response:
    """Tell the chunks of one answer as server-sent events."""
    if task.chunk is None:
        raise InvalidInput(f"an answer of {task.name} cannot stream")
    if asked.batch:
        raise InvalidInput("only the answer to a lone input can stream, not that to a list")
    (input_,), params = await router.validator.validate(task, NAME, asked.items, asked.params)
    chunks = router.stream(model_id, input_, params)
    return await event_stream(request, chunks, _chunk, lambda error: orjson.dumps(failure(error)))


def find(router: "Router", model_id: str, named: str | None = None) -> Task:
    """The task that the model performs. Raises `TaskMismatch` when it is another than `named`."""
    task = router.task(model_id)
    if named and named not in task.names:
        raise TaskMismatch(f"the model {model_id!r} performs {' or '.join(task.names)}, not {named!r}")
    return task


async def _outcomes(router: "Router", model_id: str, task: Task, asked: Asked) -> list[Any]:
    """One output or error per item; raises the first error if there is no output at all."""
    items, params = await router.validator.validate_each(task, NAME, asked.items, asked.params)
    inputs = [item for item in items if not isinstance(item, InferenceError)]
    outputs = iter(await router.infer(model_id, inputs, params) if inputs else ())
    outcomes = [item if isinstance(item, InferenceError) else next(outputs) for item in items]
    if all(isinstance(outcome, InferenceError) for outcome in outcomes):
        raise outcomes[0]
    return outcomes


def _chunk(chunk: Schema) -> bytes:
    return chunk.model_dump_json().encode()
