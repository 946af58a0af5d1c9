"""Answer the Open Inference Protocol's HTTP routes, but for those that generate."""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from deployments.card import Card
from deployments.errors import ModelNotReady
from deployments.wire.compression import read_inflated
from deployments.wire.http import json_response
from deployments.wire.open_inference import service
from deployments.wire.open_inference.bodies import HEADER, parse, read_inference, write_inference
from deployments.wire.open_inference.types import (
    IndexRequest,
    Live,
    LoadRequest,
    ModelNames,
    ModelReady,
    Ready,
    Statistics,
)

if TYPE_CHECKING:
    from deployments.routing.router import Router


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
    if not router.startup_complete:
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
