"""Handlers of the Open Inference Protocol's HTTP routes, except those that generate text (`generate`)."""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from deployments.card import Card
from deployments.errors import ModelNotReady
from deployments.wire.http import json_response, read_body
from deployments.wire.open_inference import service
from deployments.wire.open_inference.bodies import HEADER, inference_response, parse_body, parse_inference
from deployments.wire.open_inference.types import (
    IndexRequest,
    Live,
    LoadRequest,
    ModelNames,
    ModelReady,
    Ready,
    Statistics,
    UnloadRequest,
)

if TYPE_CHECKING:
    from deployments.routing.router import Router


def model_and_version(request: Request) -> tuple[str, str]:
    """Return the path's model id and version; the version is "" if the path has none."""
    return request.path_params["model_id"], request.path_params.get("version", "")


async def infer(router: "Router", request: Request) -> Response:
    inference = parse_inference(request.headers.get(HEADER), await read_body(request))
    model_id, version = model_and_version(request)
    tensors = await service.infer(router, model_id, version, inference)
    return inference_response(model_id, inference, tensors)


async def show_server(router: "Router", request: Request) -> Response:
    return json_response(service.server_metadata().model_dump())


async def show_model(router: "Router", request: Request) -> Response:
    return json_response(service.model_metadata(router, *model_and_version(request)).model_dump())


async def list_models(router: "Router", request: Request) -> Response:
    return json_response(ModelNames(models=list(router.cards)).model_dump())


async def check_live(router: "Router", request: Request) -> Response:
    return json_response(Live().model_dump())


async def check_ready(router: "Router", request: Request) -> Response:
    """Respond with 200 after the initial models have loaded, with 503 before."""
    if not router.startup_complete:
        raise ModelNotReady("the models are still loading")
    return json_response(Ready().model_dump())


async def check_model(router: "Router", request: Request) -> Response:
    """Respond with 200 if the model is ready, otherwise with 503 and the reason."""
    card: Card = service.find_card(router, *model_and_version(request))
    if card.state != "ready":
        raise ModelNotReady(card.reason or f"the model {card.id!r} is {card.state}")
    return json_response(ModelReady(name=card.id).model_dump())


async def show_statistics(router: "Router", request: Request) -> Response:
    path = model_and_version(request) if request.path_params else ()
    statistics = Statistics(model_stats=await service.model_statistics(router, *path))
    return json_response(statistics.model_dump())


async def list_repository(router: "Router", request: Request) -> Response:
    body = parse_body(IndexRequest, await read_body(request))
    return json_response([model.model_dump() for model in service.repository_index(router, body.ready)])


async def load(router: "Router", request: Request) -> Response:
    body = parse_body(LoadRequest, await read_body(request))
    await service.load(router, request.path_params["model_id"], body.parameters or {})
    return json_response({})


async def unload(router: "Router", request: Request) -> Response:
    body = parse_body(UnloadRequest, await read_body(request))
    await service.unload(router, request.path_params["model_id"], body.parameters or {})
    return json_response({})
