"""The Open Inference Protocol, version 2, as clients of KServe, Triton and MLServer speak it: HTTP and gRPC.

    tritonclient.http.InferenceServerClient("127.0.0.1:8000").infer("sentiment", [text])

Tensors carry a task's fields: row n of each is item n (`tensor_inputs`, `tensor_outputs`). A model has one
version, "1". What a client sends for Triton's scheduler (sequences, priority, timeout) is not heeded.
"""

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from deployments.card import Card
from deployments.dialect import HTTP_STATUS, Dialect, Offer, Operation
from deployments.errors import InferenceError, ModelNotReady
from deployments.task import Task
from deployments.wire.compression import read_inflated
from deployments.wire.http import UnsupportedMedia, json_response
from deployments.wire.open_inference import generate as open_inference_generate
from deployments.wire.open_inference import rpcs as open_inference_rpcs
from deployments.wire.open_inference import service as service
from deployments.wire.open_inference import stream as open_inference_stream
from deployments.wire.open_inference import tensor_inputs
from deployments.wire.open_inference.bodies import HEADER, parse, read_inference, write_inference
from deployments.wire.open_inference.protos import SERVICE, STREAMING
from deployments.wire.open_inference.tensors import to_json
from deployments.wire.open_inference.types import (
    Failure,
    GenerateRequest,
    GenerateResponse,
    IndexRequest,
    InferRequest,
    InferResponse,
    Live,
    LoadRequest,
    ModelMetadata,
    ModelNames,
    ModelReady,
    Nothing,
    Ready,
    RepositoryIndex,
    ServerMetadata,
    Statistics,
)

if TYPE_CHECKING:
    from deployments.routing.router import Router

STATUS = {**HTTP_STATUS, "invalid": 400}
MODEL, REPOSITORY = "/v2/models/{model_id}", "/v2/repository"


def named(request: Request) -> tuple[str, str]:
    """The model and the version that the path names; "" for any."""
    return request.path_params["model_id"], request.path_params.get("version", "")


async def infer(router: "Router", request: Request) -> Response:
    asked = read_inference(request.headers.get(HEADER), await read_inflated(request))
    model_id, version = named(request)
    return write_inference(model_id, asked, await service.infer(router, model_id, version, asked))


async def show_server(router: "Router", request: Request) -> Response:
    return json_response(service.server_metadata().model_dump())


async def show_model(router: "Router", request: Request) -> Response:
    return json_response(service.model_metadata(router, *named(request)).model_dump())


async def list_models(router: "Router", request: Request) -> Response:
    return json_response(ModelNames(models=list(router.cards)).model_dump())


async def check_live(router: "Router", request: Request) -> Response:
    return json_response(Live().model_dump())


async def check_ready(router: "Router", request: Request) -> Response:
    """200 once the models that were there at start have loaded; before, 503."""
    if not router.settled:
        raise ModelNotReady("the models are still loading")
    return json_response(Ready().model_dump())


async def check_model(router: "Router", request: Request) -> Response:
    """200 while the model answers; otherwise 503 with the reason."""
    card: Card = service.find(router, *named(request))
    if card.state != "ready":
        raise ModelNotReady(card.reason or f"the model {card.id!r} is {card.state}")
    return json_response(ModelReady(name=card.id).model_dump())


async def show_statistics(router: "Router", request: Request) -> Response:
    told = await service.statistics(router, *(named(request) if request.path_params else ()))
    return json_response(Statistics(model_stats=told).model_dump())


async def list_repository(router: "Router", request: Request) -> Response:
    asked = parse(IndexRequest, await read_inflated(request))
    return json_response([one.model_dump() for one in service.index(router, asked.ready)])


async def load(router: "Router", request: Request) -> Response:
    asked = parse(LoadRequest, await read_inflated(request))
    await service.load(router, request.path_params["model_id"], asked.parameters or {})
    return json_response({})


async def unload(router: "Router", request: Request) -> Response:
    asked = parse(LoadRequest, await read_inflated(request))
    await service.unload(router, request.path_params["model_id"], asked.parameters or {})
    return json_response({})


def say(error: InferenceError, request_id: str) -> Response:
    status = 415 if isinstance(error, UnsupportedMedia) else STATUS[error.kind]
    return json_response(Failure(error=str(error)).model_dump(), status)


def operations() -> list[Operation]:
    """What can be asked of the server, of a model (with its version or without), and of the repository."""
    return [
        Operation("GET", "/v2", show_server, "Show the server's metadata", answer=ServerMetadata),
        Operation("GET", "/v2/health/live", check_live, "Tell that the server is live", answer=Live),
        Operation(
            "GET", "/v2/health/ready", check_ready, "Tell whether the models have loaded", answer=Ready
        ),
        Operation("GET", "/v2/models", list_models, "List every model's name", answer=ModelNames),
        Operation("GET", "/v2/models/stats", show_statistics, "Show all statistics", answer=Statistics),
        *_of_model(MODEL),
        *_of_model(f"{MODEL}/versions/{{version}}"),
        Operation(
            "POST",
            f"{REPOSITORY}/index",
            list_repository,
            "List every model and its state",
            body=IndexRequest,
            answer=RepositoryIndex,
        ),
        *(
            Operation(
                "POST",
                f"{REPOSITORY}/models/{{model_id}}/{verb}",
                endpoint,
                f"{verb.capitalize()} a model, and wait until it is done",
                body=LoadRequest,
                answer=Nothing,
            )
            for verb, endpoint in {"load": load, "unload": unload}.items()
        ),
    ]


def _of_model(path: str) -> list[Operation]:
    generated: dict[str, Any] = {"body": GenerateRequest}
    return [
        Operation("GET", path, show_model, "Show a model's metadata", answer=ModelMetadata),
        Operation("GET", f"{path}/ready", check_model, "Tell whether a model answers", answer=ModelReady),
        Operation("GET", f"{path}/stats", show_statistics, "Show a model's statistics", answer=Statistics),
        Operation(
            "POST",
            f"{path}/infer",
            infer,
            "Perform a model's task on tensors",
            body=InferRequest,
            answer=InferResponse,
            raw_body="application/octet-stream",
        ),
        Operation(
            "POST",
            f"{path}/generate",
            open_inference_generate.generate,
            "Go on from a text",
            answer=GenerateResponse,
            **generated,
        ),
        Operation(
            "POST",
            f"{path}/generate_stream",
            open_inference_generate.generate_stream,
            "Go on from a text, piece by piece",
            event=GenerateResponse,
            **generated,
        ),
    ]


def offers(task: Task, model_id: str) -> list[Offer]:
    """Inference over HTTP and gRPC, and generation where the task generates."""
    tensors, path = tensor_inputs.example(task), MODEL.format(model_id=model_id)
    inputs = [
        {
            "name": one.name,
            "datatype": one.datatype,
            "shape": one.shape,
            "parameters": one.parameters,
            "data": to_json(one),
        }
        for one in tensors
    ]
    generate = open_inference_generate
    message = open_inference_rpcs.example(model_id, tensors)
    offered = [
        Offer("POST", f"{path}/infer", {"inputs": inputs}),
        Offer("RPC", f"{SERVICE}/ModelInfer", message),
        Offer("RPC", f"{SERVICE}/{STREAMING}", message, streams=generate.streams(task)),
    ]
    if generate.generates(task):
        offered.append(Offer("POST", f"{path}/generate", generate.example(task)))
    if generate.streams(task):
        offered.append(Offer("POST", f"{path}/generate_stream", generate.example(task), streams=True))
    return offered


dialect = Dialect(
    name=service.NAME,
    say=say,
    operations=operations,
    rpcs=lambda: [*open_inference_rpcs.rpcs(), open_inference_stream.rpc()],
    offers=offers,
    error=Failure,
    refusals={415: "a Content-Encoding that is neither gzip nor deflate"},
)
