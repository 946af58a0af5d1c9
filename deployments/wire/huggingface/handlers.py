"""Perform a model's task for a client of the Hugging Face dialect, with one response or with a stream."""

from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import InferenceError, InvalidInput, ModelNotReady, TaskMismatch
from deployments.schema import Schema
from deployments.task import Task
from deployments.wire.http import json_response, read_body
from deployments.wire.huggingface.errors import error_json
from deployments.wire.huggingface.requests import ParsedRequest, parse_request
from deployments.wire.model_info import loading_error
from deployments.wire.sse import event_stream
from deployments.wire.task_json import to_hub_json

if TYPE_CHECKING:
    from deployments.routing.router import Router

NAME = "huggingface"


async def perform_task(router: "Router", request: Request, *, named: str | None = None) -> Response:
    """Perform the model's task; if the path names a task, it must be the same.

    While the model loads, the request waits, unless its body or its header declines that.
    """
    model_id = request.path_params["model_id"]
    try:
        task = find_task(router, model_id, named or request.path_params.get("task"))
        content_type = request.headers.get("content-type", "")
        parsed = parse_request(task, content_type, await read_body(request))
        may_wait = parsed.wait and request.headers.get("x-wait-for-model") not in ("false", "0")
        if not may_wait and router.card(model_id).state == "loading":
            raise loading_error(router.card(model_id))
        if parsed.stream:
            return await streamed_response(router, request, model_id, task, parsed)
        return await whole_response(router, model_id, task, parsed)
    except ModelNotReady as error:
        card = router.card(model_id)
        raise (loading_error(card) if card.state == "loading" else error) from None


async def whole_response(router: "Router", model_id: str, task: Task, parsed: ParsedRequest) -> Response:
    """Return all outputs in one response; a failed item of a list has its error in place of an output."""
    results = await _infer_valid_items(router, model_id, task, parsed)
    items = [error_json(item) if isinstance(item, InferenceError) else to_hub_json(item) for item in results]
    return json_response(items if parsed.batch or task.single_output_in_list else items[0])


async def streamed_response(
    router: "Router", request: Request, model_id: str, task: Task, parsed: ParsedRequest
) -> Response:
    """Stream the chunks of one output as server-sent events."""
    if task.chunk is None:
        raise InvalidInput(f"the output of {task.name} cannot stream; send `stream`: false", field="stream")
    if parsed.batch:
        raise InvalidInput("a request with a list of inputs cannot stream; send one input", field="inputs")
    (input_,), params = await router.validator.validate(task, NAME, parsed.items, parsed.params)
    chunks = router.stream(model_id, input_, params)
    return await event_stream(request, chunks, _chunk_json, lambda error: orjson.dumps(error_json(error)))


def find_task(router: "Router", model_id: str, named: str | None = None) -> Task:
    """Return the task that the model performs. Raises `TaskMismatch` if `named` is another task."""
    task = router.task(model_id)
    if named and named not in task.names:
        raise TaskMismatch(f"the model {model_id!r} performs {' or '.join(task.names)}, not {named!r}")
    return task


async def _infer_valid_items(router: "Router", model_id: str, task: Task, parsed: ParsedRequest) -> list[Any]:
    """Return an output or an error per item. Raises the first error if every item failed."""
    items, params = await router.validator.validate_each(task, NAME, parsed.items, parsed.params)
    inputs = [item for item in items if not isinstance(item, InferenceError)]
    outputs = iter(await router.infer(model_id, inputs, params) if inputs else ())
    results = [item if isinstance(item, InferenceError) else next(outputs) for item in items]
    if all(isinstance(result, InferenceError) for result in results):
        raise results[0]
    return results


def _chunk_json(chunk: Schema) -> bytes:
    return chunk.model_dump_json().encode()
