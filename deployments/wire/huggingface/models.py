"""Show the models: the list, one model, whether it is ready, and its facts and limits."""

from typing import TYPE_CHECKING

from pydantic import RootModel
from starlette.requests import Request
from starlette.responses import Response

from deployments.card import Card
from deployments.wire.http import json_response
from deployments.wire.model_info import model_health, model_info

if TYPE_CHECKING:
    from deployments.routing.router import Router


class Cards(RootModel[list[Card]]):
    """Every model, in any state."""


async def list_models(router: "Router", request: Request) -> Response:
    """Return the card of every model."""
    return json_response([card.model_dump(mode="json") for card in router.cards.values()])


async def show_model(router: "Router", request: Request) -> Response:
    """Return one model's card."""
    return json_response(_card(router, request).model_dump(mode="json"))


async def check_health(router: "Router", request: Request) -> Response:
    """Return 200 if the model is ready, otherwise 503 with the reason."""
    return json_response(model_health(_card(router, request)).model_dump())


async def show_info(router: "Router", request: Request) -> Response:
    """Return a model's facts and limits."""
    return json_response(model_info(_card(router, request)).model_dump())


def _card(router: "Router", request: Request) -> Card:
    return router.card(request.path_params["model_id"])
