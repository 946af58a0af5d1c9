"""Show the cluster's index, its health and how each model does."""

from collections import Counter
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, RootModel
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from deployments.card import State
from deployments.dialect import HTTP_STATUS
from deployments.telemetry.request_stats import ModelStats
from deployments.wire.http import json_response

if TYPE_CHECKING:
    from deployments.routing.router import Router


class Index(BaseModel):
    """Where to go from here."""

    models: str = "/models"
    status: str = "/status"
    docs: str = "/docs"
    openapi: str = "/openapi.json"


class Liveness(BaseModel):
    """The door is open."""

    status: Literal["live"] = "live"


class Status(RootModel[list[ModelStats]]):
    """How each model does: requests per second, latencies, requests in flight."""


class Counters(RootModel[dict[str, int]]):
    """Running totals of the work of one of the model's replicas, by its module's own names."""


class Readiness(BaseModel):
    """Whether every folder that was there at start is ready or unavailable, and how many are which."""

    status: Literal["ready", "starting"]
    ready: int
    loading: int
    unavailable: int


async def show_index(router: "Router", request: Request) -> Response:
    """Browsers are sent to the UI, or the documentation where there is none; others read where things are."""
    if "text/html" in request.headers.get("accept", ""):
        face = f"{request.scope.get('root_path', '')}/{'ui' if router.has_ui else 'docs'}"
        return RedirectResponse(face, headers={"vary": "accept"})
    response = json_response(Index().model_dump())
    response.headers["vary"] = "accept"
    return response


async def show_live(router: "Router", request: Request) -> Response:
    return json_response(Liveness().model_dump())


async def show_ready(router: "Router", request: Request) -> Response:
    """200 once the cluster has settled; before, 503 with the counts beside the error."""
    states: Counter[State] = Counter(card.state for card in router.cards.values())
    readiness = Readiness(
        status="ready" if router.startup_complete else "starting",
        ready=states["ready"],
        loading=states["loading"],
        unavailable=states["unavailable"],
    )
    if router.startup_complete:
        return json_response(readiness.model_dump())
    told = {"error": "the models are still loading", "error_type": "unavailable", **readiness.model_dump()}
    return json_response(told, HTTP_STATUS["unavailable"])


async def show_status(router: "Router", request: Request) -> Response:
    return json_response([figures.model_dump() for figures in await router.stats()])


async def show_counters(router: "Router", request: Request) -> Response:
    """Refuses a model that is unknown, or unavailable, before anything is asked of its replicas."""
    model_id = request.path_params["model_id"]
    router.task(model_id)
    return json_response(await router.counters(model_id))
