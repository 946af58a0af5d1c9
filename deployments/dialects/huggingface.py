"""The Hugging Face dialect: what `huggingface_hub.InferenceClient` sends and reads, for every task.

    InferenceClient(model="http://127.0.0.1:8000/models/sentiment").text_classification("I loved it.")

A body is JSON, `{"inputs": ..., "parameters": {...}, "stream": false}`, or, for a task that reads a picture,
the picture itself. Without a Content-Type, or with curl's own, the body decides; a wrong one is HTTP 415.
"""

import re
from functools import partial, reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel, RootModel, create_model
from starlette.requests import Request
from starlette.responses import Response

from deployments.dialect import HTTP_STATUS, Dialect, Offer, Operation
from deployments.errors import InferenceError, InvalidInput, ModelNotReady, TaskMismatch
from deployments.schema import Schema
from deployments.task import TASKS, Task
from deployments.wire.http import UnsupportedMedia, json_response, read_body
from deployments.wire.huggingface.requests import (
    Asked,
    HubFailure,
    answer_type,
    read,
    request_type,
)
from deployments.wire.sse import event_stream
from deployments.wire.task_json import example, form, said
from deployments.wire.tei import model_info
from deployments.wire.tei.model_info import Loading, loading

if TYPE_CHECKING:
    from deployments.routing.router import Router

LOADING_SECONDS = 20.0
MAX_HEADER = 1000  # proxies refuse an answer whose headers are longer than some kilobytes
UNPRINTABLE = re.compile(r"[^ -~]")  # in a header it ends the connection, or is read as another character

# Text Generation Inference's names, which the client turns into exceptions of their own. A kind without one
# keeps its HTTP status in the client's `HfHubHTTPError`.
ERROR_TYPE = {
    "invalid": "validation",
    "too_large": "validation",
    "overloaded": "overloaded",
    "internal": "generation",
    "timeout": "incomplete_generation",
}


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
            raise loading(router.card(model_id))
        return await (stream if asked.stream else infer)(router, request, model_id, task, asked)
    except ModelNotReady as error:
        card = router.card(model_id)
        raise (loading(card) if card.state == "loading" else error) from None


async def infer(router: "Router", request: Request, model_id: str, task: Task, asked: Asked) -> Response:
    """Tell all answers at once, an error in the place of each that failed."""
    outcomes = await _outcomes(router, model_id, task, asked)
    answers = [_failure(told) if isinstance(told, InferenceError) else said(told) for told in outcomes]
    return json_response(answers if asked.batch or task.lone_answer_in_list else answers[0])


async def stream(router: "Router", request: Request, model_id: str, task: Task, asked: Asked) -> Response:
    """Tell the chunks of one answer as server-sent events."""
    if task.chunk is None:
        raise InvalidInput(f"an answer of {task.name} cannot stream")
    if asked.batch:
        raise InvalidInput("only the answer to a lone input can stream, not that to a list")
    (input_,), params = await router.read(task, dialect.name, asked.items, asked.params)
    chunks = router.stream(model_id, input_, params)
    return await event_stream(request, chunks, _chunk, lambda error: orjson.dumps(_failure(error)))


def find(router: "Router", model_id: str, named: str | None = None) -> Task:
    """The task that the model performs. Raises `TaskMismatch` when it is another than `named`."""
    task = router.task(model_id)
    if named and named not in task.names:
        raise TaskMismatch(f"the model {model_id!r} performs {' or '.join(task.names)}, not {named!r}")
    return task


def say(error: InferenceError, request_id: str) -> Response:
    """An error's response; its sentence is in the body and, as far as it fits, in `X-Error-Message`."""
    status = 415 if isinstance(error, UnsupportedMedia) else HTTP_STATUS[error.kind]
    response = json_response(_failure(error), status)
    line = " ".join(str(error).split())[:MAX_HEADER]
    response.headers["x-error-message"] = UNPRINTABLE.sub("?", line)
    return response


def operations() -> list[Operation]:
    """What can be asked of any model, of a model of each task, and about models."""
    types = {task.name: _types(task) for task in TASKS.values()}
    generic = _any_of(list(types.values()))
    return [
        Operation("POST", "/models/{model_id}", perform, "Perform a model's task", **generic),
        Operation("POST", "/models/{model_id}/pipeline/{task}", perform, "Perform the named task", **generic),
        Operation("POST", "/pipeline/{task}/{model_id}", perform, "Perform the named task", **generic),
        *(_typed(task, types[task.name]) for task in TASKS.values()),
        *model_info.operations(),
    ]


def offers(task: Task, model_id: str) -> list[Offer]:
    """Each path that performs the task, and where its answers can stream, streaming as well."""
    paths = (
        f"/models/{model_id}",
        f"/models/{model_id}/pipeline/{task.name}",
        f"/pipeline/{task.name}/{model_id}",
    )
    whole = [Offer("POST", path, example(task)) for path in paths]
    streamed = [Offer("POST", path, {**example(task), "stream": True}, streams=True) for path in paths]
    return whole + (streamed if task.chunk else [])


def _typed(task: Task, types: dict[str, Any]) -> Operation:
    path = f"/models/{{model_id}}/pipeline/{task.name}"
    return Operation("POST", path, partial(perform, named=task.name), task.summary, **types)


def _types(task: Task) -> dict[str, Any]:
    """How OpenAPI types the performing of a task."""
    raw_body = "image/*" if form(task.input).picture else None
    return {
        "body": request_type(task),
        "answer": answer_type(task),
        "raw_body": raw_body,
        "event": task.chunk,
    }


def _any_of(types: list[dict[str, Any]]) -> dict[str, Any]:
    """How OpenAPI types the performing of whichever task a model has."""
    return {
        "body": _union("HuggingFaceRequest", [each["body"] for each in types]),
        "answer": _union("HuggingFaceAnswer", [each["answer"] for each in types]),
        "raw_body": next((each["raw_body"] for each in types if each["raw_body"]), None),
        "event": _union("HuggingFaceEvent", [each["event"] for each in types if each["event"]]),
    }


def _union(name: str, types: list[Any]) -> type[BaseModel] | None:
    if not types:
        return None
    either: Any = reduce(or_, types)
    return create_model(name, __base__=RootModel[either])


async def _outcomes(router: "Router", model_id: str, task: Task, asked: Asked) -> list[Any]:
    """One output or error per item; raises the first error if there is no output at all."""
    items, params = await router.read_each(task, dialect.name, asked.items, asked.params)
    inputs = [item for item in items if not isinstance(item, InferenceError)]
    outputs = iter(await router.infer(model_id, inputs, params) if inputs else ())
    outcomes = [item if isinstance(item, InferenceError) else next(outputs) for item in items]
    if all(isinstance(outcome, InferenceError) for outcome in outcomes):
        raise outcomes[0]
    return outcomes


def _chunk(chunk: Schema) -> bytes:
    return chunk.model_dump_json().encode()


def _failure(error: InferenceError) -> dict[str, Any]:
    failure: dict[str, Any] = {"error": str(error)}
    if error.kind in ERROR_TYPE:
        failure["error_type"] = ERROR_TYPE[error.kind]
    if isinstance(error, Loading):
        failure["estimated_time"] = LOADING_SECONDS
    return failure


dialect = Dialect(
    name="huggingface",
    say=say,
    operations=operations,
    offers=offers,
    error=HubFailure,
    refusals={415: "a Content-Type that the task does not read"},
)
