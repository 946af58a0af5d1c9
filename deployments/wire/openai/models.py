"""Models, as OpenAI lists them."""

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from deployments.card import Card
from deployments.errors import ModelNotFound, ModelNotReady
from deployments.wire.openai.requests import respond_with

if TYPE_CHECKING:
    from deployments.routing.router import Router


class OpenAIModel(BaseModel):
    """A model. When its weights were made is not known: `created` is always 0."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


class OpenAIModels(BaseModel):
    """Every model that answers, or will soon."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


async def list_models(router: "Router", request: Request) -> Response:
    """Those that can be asked here; under a model's own path it alone."""
    own = request.path_params.get("model_id")
    cards = router.cards.values() if own is None else [router.card(own)]
    return respond_with(OpenAIModels(data=[_model(card) for card in cards if card.state != "unavailable"]))


async def show_model(router: "Router", request: Request) -> Response:
    """The model that is named; under a model's own path that, whatever name follows."""
    model_id = request.path_params.get("model_id") or request.path_params["model"]
    card = router.card(model_id)
    if card.state == "unavailable":
        raise ModelNotReady(card.reason or f"the model {card.id!r} is unavailable")
    return respond_with(_model(card))


async def show_no_model(router: "Router", request: Request) -> Response:
    """A name with a slash, as models have it elsewhere, is none of ours; under a model's own path any is."""
    if "model_id" in request.path_params:
        return await show_model(router, request)
    raise ModelNotFound("no model is named {organisation}/{model}".format_map(request.path_params))


def _model(card: Card) -> OpenAIModel:
    owner, slash, _ = (card.model or "").partition("/")
    return OpenAIModel(id=card.id, owned_by=owner if slash else "roster")
