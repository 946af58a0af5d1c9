"""Caikit: one rpc and one route per task. A request names its model: in metadata over gRPC, else in its body.

    grpcurl -plaintext -H 'mm-model-id: sentiment' -d '{"text_in": "I loved it."}' \\
        127.0.0.1:9000 caikit.runtime.Runtime.RuntimeService/SentimentTaskPredict

What a task's words are called here is said in `caikit_data_model`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import orjson
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from deployments.card import Card
from deployments.dialect import (
    HTTP_STATUS,
    Dialect,
    Offer,
    Operation,
    Rpc,
    UnsupportedMedia,
    json_response,
    read_body,
)
from deployments.errors import InferenceError, InvalidInput, ModelNotFound, ModelNotReady, TaskMismatch
from deployments.schema import Schema, words
from deployments.task import TASKS, Task
from deployments.wire import caikit_data_model, protobuf
from deployments.wire.caikit_data_model import (
    ModelInfo,
    ModelInfoRequest,
    ModelInfoResponse,
    RuntimeInfoRequest,
    RuntimeInfoResponse,
)
from deployments.wire.multipart import UnknownKey, read_form

if TYPE_CHECKING:
    from deployments.router import Router

REQUESTS, ANSWERED = "caikit.runtime.Runtime", "caikit_data_model"
INFO, INFORMED = "caikit.runtime.info", "caikit_data_model.common.runtime"
STATUS = {**HTTP_STATUS, "invalid": 400}
MAX_QUOTED = 4096  # a longer body is not sent back in an error's `additional_info`

Handle = Callable[["Router", dict[str, Any], Mapping[str, str]], Awaitable[BaseModel]]


class Unprocessable(InvalidInput):
    """JSON of the wrong shape."""

    def __init__(self, errors: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(errors[0]["msg"])
        self.errors = errors


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
        return Response(orjson.dumps(told, default=_quote), 422, media_type="application/json")
    status = STATUS[error.kind]
    return json_response({"details": str(error), "code": status, "id": request_id}, status)


def _quote(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class Method:
    """One rpc before it is raw bytes: what it asks and answers, and who answers it."""

    service: str
    name: str
    request: type[Message]
    answer: type[Message]
    handle: Handle

    def rpc(self) -> Rpc:
        async def call(router: "Router", raw: bytes, metadata: Mapping[str, str]) -> bytes:
            answered = await self.handle(router, protobuf.read(self.request, raw), metadata)
            return protobuf.write(self.answer, answered)

        return Rpc(self.service, self.name, call)


class Predict:
    """A task as Caikit calls it: its arguments, its answer, its rpc and its route."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.arguments = caikit_data_model.arguments(task.input)
        self.request = caikit_data_model.request(f"{task.title}TaskRequest", task.input)
        self.answer, self.translate = caikit_data_model.answer(task.output)

    @cached_property
    def body(self) -> type[BaseModel]:
        """The schema of an HTTP request: a lone argument is `inputs` itself, several are an object's fields.

        What is missing reads as None: Caikit refuses it in other words, and only after what has a wrong type.
        """
        types: list[Any] = [field.annotation for field in self.request.model_fields.values()]
        absent = Field(default_factory=lambda: None)
        fields: dict[str, Any] = {
            "inputs": (types[0] if len(types) == 1 else self.request, absent),
            "model_id": (str, absent),
            "parameters": (self.task.params | None, None),
        }
        config = ConfigDict(extra="forbid", json_schema_extra={"required": ["inputs", "model_id"]})
        return create_model(f"{self.task.title}TaskBody", __config__=config, **fields)

    def method(self, pool: DescriptorPool | None) -> Method:
        async def handle(router: "Router", given: dict[str, Any], metadata: Mapping[str, str]) -> BaseModel:
            return await self.perform(router, metadata.get("mm-model-id", ""), given, {})

        return Method(
            f"{REQUESTS}.RuntimeService",
            f"{self.task.title}TaskPredict",
            protobuf.message(self.request, REQUESTS, pool),
            protobuf.message(self.answer, ANSWERED, pool),
            handle,
        )

    def operation(self) -> Operation:
        path = f"/api/v1/task/{self.task.name}"
        return Operation("POST", path, self.post, self.task.summary, self.body, self.answer)

    async def post(self, router: "Router", request: Request) -> Response:
        asked = (await _read(request, self.body)).model_dump(mode="json", exclude_unset=True)
        if "model_id" not in asked:
            raise InvalidInput("Please provide model_id in payload")
        inputs = asked.get("inputs")
        given = dict.fromkeys(self.arguments, inputs) if len(self.arguments) == 1 else inputs or {}
        answered = await self.perform(router, asked["model_id"], given, asked.get("parameters") or {})
        return Response(answered.model_dump_json(), media_type="application/json")

    async def perform(
        self, router: "Router", model_id: str, given: Mapping[str, Any], params: Mapping[str, Any]
    ) -> BaseModel:
        """Caikit's answer to Caikit's arguments."""
        if not model_id:
            raise InvalidInput("Missing required model ID")
        try:
            self._check(router, model_id)
            inputs, chosen = await router.read(self.task, dialect.name, [self._input(given)], params)
            (output,) = await router.infer(model_id, inputs, chosen)
        except ModelNotFound:
            raise ModelNotFound(f"Model '{model_id}' not loaded") from None
        if isinstance(output, InferenceError):
            raise output
        return self.translate(output)

    def _check(self, router: "Router", model_id: str) -> None:
        live = router.task(model_id)
        if live.name != self.task.name:
            raise TaskMismatch(f"Model '{model_id}' performs {live.name}, not {self.task.name}")

    def _input(self, given: Mapping[str, Any]) -> dict[str, Any]:
        for name in self.arguments:
            if given.get(name) in (None, "", b"", []):
                raise InvalidInput(
                    f"{self.task.title}.run() missing 1 required positional argument: '{name}'"
                )
        return {field: given[name] for name, field in self.arguments.items()}


async def _read(request: Request, schema: type[BaseModel]) -> BaseModel:
    """The body, JSON or a form, as `schema`."""
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    body = await read_body(request)
    if media_type == "multipart/form-data":
        body = orjson.dumps(await read_form(request, body, schema))
    elif media_type != "application/json":
        raise UnsupportedMedia(f"Unsupported media type: {content_type}")
    try:
        return schema.model_validate_json(body)
    except ValidationError as wrong:
        raise Unprocessable(wrong.errors(include_input=len(body) <= MAX_QUOTED)) from None


def _runtime() -> RuntimeInfoResponse:
    return RuntimeInfoResponse(runtime_version="", python_packages=_packages())


@cache
def _packages() -> dict[str, str]:
    found = {}
    for name in ("roster", "ray", "transformers"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _models(router: "Router", model_ids: list[str]) -> ModelInfoResponse:
    """What is known of these models, or of all; raises `ModelNotFound`."""
    for model_id in model_ids:
        if model_id not in router.cards:
            raise ModelNotFound(f"Model {model_id} is not loaded")
    return ModelInfoResponse(
        models=[_model(router.cards[model_id]) for model_id in model_ids or router.cards]
    )


def _model(card: Card) -> ModelInfo:
    if card.state != "ready":
        return ModelInfo(name=card.id)
    return ModelInfo(
        model_path=card.folder,
        name=card.id,
        size=card.description.bytes if card.description else 0,
        metadata={},
        loaded=True,
        module_id=card.module_id,
        module_metadata={"name": (card.task or "").replace("-", "_"), "version": "0.0.0"},
    )


async def get_runtime_info(router: "Router", given: dict[str, Any], metadata: Mapping[str, str]) -> BaseModel:
    return _runtime()


async def get_models_info(router: "Router", given: dict[str, Any], metadata: Mapping[str, str]) -> BaseModel:
    return _models(router, given["model_ids"])


async def health(router: "Router", request: Request) -> Response:
    """OK once the models that were there at start are loaded: before, Caikit does not listen at all."""
    if not router.settled:
        raise ModelNotReady("the models are still loading")
    return PlainTextResponse("OK")


async def info_version(router: "Router", request: Request) -> Response:
    return json_response(_runtime().model_dump())


async def info_models(router: "Router", request: Request) -> Response:
    return json_response(_models(router, request.query_params.getlist("model_ids")).model_dump())


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
    name="caikit",
    say=say,
    operations=operations,
    rpcs=rpcs,
    offers=offers,
    error=CaikitFailure,
    refusals={415: "a Content-Type that is neither JSON nor a form", 422: "a body of the wrong shape"},
)
