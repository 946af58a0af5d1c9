"""Show the gateway's index, its health, and statistics of each model."""

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
    """The gateway's main paths."""

    models: str = "/models"
    status: str = "/status"
    docs: str = "/docs"
    openapi: str = "/openapi.json"


class Liveness(BaseModel):
    """The gateway is running."""

    status: Literal["live"] = "live"


class ModelStatus(ModelStats):
    """State and statistics of a model over the last ten seconds. Latencies are null without requests.

    `reason` says what a model that is loading waits for, or why it is unavailable.
    """

    state: State
    reason: str = ""


class Status(RootModel[list[ModelStatus]]):
    """State and statistics of each model: requests per second, latencies, requests in flight."""


class Counters(RootModel[dict[str, int]]):
    """Running totals of one replica's work, by the names that its module defines."""


class Readiness(BaseModel):
    """Whether every model folder that existed at start is ready or unavailable; the number in each state."""

    status: Literal["ready", "starting"]
    ready: int
    loading: int
    unavailable: int


async def show_index(router: "Router", request: Request) -> Response:
    """Return the index as JSON; redirect a browser to the UI, or without a UI to the documentation."""
    if "text/html" in request.headers.get("accept", ""):
        page = f"{request.scope.get('root_path', '')}/{'ui' if router.has_ui else 'docs'}"
        return RedirectResponse(page, headers={"vary": "accept"})
    response = json_response(Index().model_dump())
    response.headers["vary"] = "accept"
    return response


async def show_live(router: "Router", request: Request) -> Response:
    """Return 200: the gateway is running."""
    return json_response(Liveness().model_dump())


async def show_ready(router: "Router", request: Request) -> Response:
    """Return 200 once startup is complete, before that 503 with the counts beside the error."""
    states: Counter[State] = Counter(card.state for card in router.cards.values())
    readiness = Readiness(
        status="ready" if router.startup_complete else "starting",
        ready=states["ready"],
        loading=states["loading"],
        unavailable=states["unavailable"],
    )
    if router.startup_complete:
        return json_response(readiness.model_dump())
    error = {"error": "the models are still loading", "error_type": "unavailable"}
    return json_response({**error, **readiness.model_dump()}, HTTP_STATUS["unavailable"])


async def show_status(router: "Router", request: Request) -> Response:
    """Return the state and the statistics of each model."""
    cards = router.cards
    return json_response(
        [
            {**stats.model_dump(), "state": card.state, "reason": card.reason}
            for stats in await router.stats()
            if (card := cards.get(stats.id))
        ]
    )


async def show_counters(router: "Router", request: Request) -> Response:
    """Return the running totals of one of the model's replicas."""
    model_id = request.path_params["model_id"]
    router.task(model_id)  # raises for an unknown or unavailable model, before a call to its replicas
    return json_response(await router.counters(model_id))
