"""The list of models in OpenAI's format."""

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
    """A model. `created` is always 0: Roster does not know when the weights were made."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


class OpenAIModels(BaseModel):
    """All models that are ready or loading."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]


async def list_models(router: "Router", request: Request) -> Response:
    """List the models that are ready or loading; under a model's own path only that model."""
    model_id = request.path_params.get("model_id")
    cards = router.cards.values() if model_id is None else [router.card(model_id)]
    data = [_to_openai_model(card) for card in cards if card.state != "unavailable"]
    return respond_with(OpenAIModels(data=data))


async def show_model(router: "Router", request: Request) -> Response:
    """Return the model named in the path; under `/models/{model_id}/v1`, always that model."""
    model_id = request.path_params.get("model_id") or request.path_params["model"]
    card = router.card(model_id)
    if card.state == "unavailable":
        raise ModelNotReady(card.reason or f"the model {card.id!r} is unavailable")
    return respond_with(_to_openai_model(card))


async def show_hub_model(router: "Router", request: Request) -> Response:
    """Raise `ModelNotFound`: no id has a slash, unlike the Hub's; under a model's own path return that."""
    if "model_id" in request.path_params:
        return await show_model(router, request)
    raise ModelNotFound("no model is named {organisation}/{model}".format_map(request.path_params))


def _to_openai_model(card: Card) -> OpenAIModel:
    owner, slash, _ = (card.model or "").partition("/")
    return OpenAIModel(id=card.id, owned_by=owner if slash else "roster")
