"""What Caikit tells of itself and of its models."""

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from deployments.card import Card
from deployments.errors import ModelNotFound, ModelNotReady
from deployments.wire.caikit.types import ModelInfo, ModelInfoResponse, RuntimeInfoResponse
from deployments.wire.http import json_response

if TYPE_CHECKING:
    from deployments.routing.router import Router


async def health(router: "Router", request: Request) -> Response:
    """OK once the models that were there at start are loaded: before, Caikit does not listen at all."""
    if not router.startup_complete:
        raise ModelNotReady("the models are still loading")
    return PlainTextResponse("OK")


async def get_runtime_info(router: "Router", given: dict[str, Any], metadata: Mapping[str, str]) -> BaseModel:
    return _runtime()


async def get_models_info(router: "Router", given: dict[str, Any], metadata: Mapping[str, str]) -> BaseModel:
    return _models(router, given["model_ids"])


async def info_version(router: "Router", request: Request) -> Response:
    return json_response(_runtime().model_dump())


async def info_models(router: "Router", request: Request) -> Response:
    return json_response(_models(router, request.query_params.getlist("model_ids")).model_dump())


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
