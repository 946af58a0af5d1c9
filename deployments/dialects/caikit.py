"""Caikit: one rpc and one route per task. A request names its model: in metadata over gRPC, else in its body.

    grpcurl -plaintext -H 'mm-model-id: sentiment' -d '{"text_in": "I loved it."}' \\
        127.0.0.1:9000 caikit.runtime.Runtime.RuntimeService/SentimentTaskPredict

What a task's words are called here is said in `caikit_data_model`.
"""

from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pool import DescriptorPool
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from deployments.dialect import HTTP_STATUS, Dialect, Offer, Operation, Rpc
from deployments.errors import InferenceError, ModelNotReady
from deployments.schema import Schema, words
from deployments.task import TASKS, Task
from deployments.wire import protobuf
from deployments.wire.caikit.info import get_models_info, get_runtime_info, info_models, info_version
from deployments.wire.caikit.predict import NAME, Handle, Method, Predict, Unprocessable
from deployments.wire.caikit.types import (
    ModelInfoRequest,
    ModelInfoResponse,
    RuntimeInfoRequest,
    RuntimeInfoResponse,
)
from deployments.wire.forms import UnknownKey
from deployments.wire.http import UnsupportedMedia, json_response

if TYPE_CHECKING:
    from deployments.routing.router import Router

INFO, INFORMED = "caikit.runtime.info", "caikit_data_model.common.runtime"
STATUS = {**HTTP_STATUS, "invalid": 400}


class CaikitFailure(Schema):
    """Why a request was refused; with a body of the wrong shape, all that is wrong with it."""

    details: str
    additional_info: list[dict[str, Any]] = []
    code: int
    id: str


def say(error: InferenceError, request_id: str) -> Response:
    """Caikit's error body, or that of its web framework where it refuses a request before Caikit."""
    if isinstance(error, UnsupportedMedia | UnknownKey):
        return json_response({"detail": str(error)}, 415 if isinstance(error, UnsupportedMedia) else 422)
    if isinstance(error, Unprocessable):
        told = {"details": str(error), "additional_info": error.errors, "code": 422, "id": request_id}
        # pydantic's own writer: it quotes whatever pydantic reads, integers of any size too.
        body = to_json(told, inf_nan_mode="null", fallback=str)
        return Response(body, 422, media_type="application/json")
    status = STATUS[error.kind]
    return json_response({"details": str(error), "code": status, "id": request_id}, status)


async def health(router: "Router", request: Request) -> Response:
    """OK once the models that were there at start are loaded: before, Caikit does not listen at all."""
    if not router.settled:
        raise ModelNotReady("the models are still loading")
    return PlainTextResponse("OK")


def predicts() -> list[Predict]:
    return [Predict(task) for task in sorted(TASKS.values(), key=lambda task: task.name)]


def methods(pool: DescriptorPool | None = None) -> list[Method]:
    """Every rpc, its messages described in `pool` (the default one)."""

    def info(name: str, request: type[BaseModel], answer: type[BaseModel], handle: Handle) -> Method:
        asked, answered = (protobuf.message(schema, INFORMED, pool) for schema in (request, answer))
        return Method(f"{INFO}.InfoService", name, asked, answered, handle)

    return [
        *(predict.method(pool) for predict in predicts()),
        info("GetRuntimeInfo", RuntimeInfoRequest, RuntimeInfoResponse, get_runtime_info),
        info("GetModelsInfo", ModelInfoRequest, ModelInfoResponse, get_models_info),
    ]


def rpcs(pool: DescriptorPool | None = None) -> list[Rpc]:
    made = methods(pool)
    for service in dict.fromkeys(method.service for method in made):
        pairs = {one.name: (one.request, one.answer) for one in made if one.service == service}
        protobuf.service(service, pairs, pool)
    return [method.rpc() for method in made]


def operations() -> list[Operation]:
    return [
        *(predict.operation() for predict in predicts()),
        Operation("GET", "/health", health, "OK once the models are loaded."),
        Operation(
            "GET", "/info/version", info_version, "Versions of what serves.", answer=RuntimeInfoResponse
        ),
        Operation(
            "GET",
            "/info/models",
            info_models,
            "Models and whether they are loaded.",
            answer=ModelInfoResponse,
        ),
    ]


def offers(task: Task, model_id: str) -> list[Offer]:
    """The task's route, and its rpc."""
    predict = Predict(task)
    method, example = predict.method(None), task.examples()[0]
    given = {argument: example[field] for argument, field in predict.arguments.items()}
    for argument, field in predict.arguments.items():
        if words(task.input)[field] == "conversation":  # here one turn, as a text
            given[argument] = example[field][-1]["content"]
    raw = protobuf.write(method.request, predict.request.model_validate(given))
    inputs = given if len(given) > 1 else next(iter(given.values()))
    return [
        Offer("POST", f"/api/v1/task/{task.name}", {"inputs": inputs, "model_id": model_id}),
        Offer("RPC", f"{method.service}/{method.name}", raw, {"mm-model-id": model_id}),
    ]


dialect = Dialect(
    name=NAME,
    say=say,
    operations=operations,
    rpcs=rpcs,
    offers=offers,
    error=CaikitFailure,
    refusals={415: "a Content-Type that is neither JSON nor a form", 422: "a body of the wrong shape"},
)
