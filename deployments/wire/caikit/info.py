"""Caikit's health check, and its info service about the runtime and the models."""

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
    """Return OK once startup is complete. Before that Caikit does not listen; here the response is 503."""
    if not router.startup_complete:
        raise ModelNotReady("the models are still loading")
    return PlainTextResponse("OK")


async def get_runtime_info(
    router: "Router", values: dict[str, Any], metadata: Mapping[str, str]
) -> BaseModel:
    """Return the runtime's versions, for the rpc."""
    return _runtime_info()


async def get_models_info(router: "Router", values: dict[str, Any], metadata: Mapping[str, str]) -> BaseModel:
    """Return the models' facts, for the rpc."""
    return _models_info(router, values["model_ids"])


async def info_version(router: "Router", request: Request) -> Response:
    """Return the runtime's versions, for the HTTP route."""
    return json_response(_runtime_info().model_dump())


async def info_models(router: "Router", request: Request) -> Response:
    """Return the models' facts, for the HTTP route."""
    return json_response(_models_info(router, request.query_params.getlist("model_ids")).model_dump())


def _runtime_info() -> RuntimeInfoResponse:
    return RuntimeInfoResponse(runtime_version="", python_packages=_package_versions())


@cache
def _package_versions() -> dict[str, str]:
    versions = {}
    for name in ("roster", "ray", "transformers"):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _models_info(router: "Router", model_ids: list[str]) -> ModelInfoResponse:
    """Return the facts of these models, or of every model if `model_ids` is empty. Raises `ModelNotFound`."""
    for model_id in model_ids:
        if model_id not in router.cards:
            raise ModelNotFound(f"Model {model_id} is not loaded")
    return ModelInfoResponse(
        models=[_model_info(router.cards[model_id]) for model_id in model_ids or router.cards]
    )


def _model_info(card: Card) -> ModelInfo:
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
