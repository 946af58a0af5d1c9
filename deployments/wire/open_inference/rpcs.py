"""The Open Inference Protocol's unary rpcs, for clients' own stubs."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from deployments.dialect import Rpc
from deployments.errors import InvalidInput, ModelNotFound
from deployments.wire.open_inference import service
from deployments.wire.open_inference.messages import infer_response, parameters_of, parse_inference
from deployments.wire.open_inference.protos import SERVICE, message_classes
from deployments.wire.protobuf import parse_message

if TYPE_CHECKING:
    from deployments.routing.router import Router

Handler = Callable[["Router", Any], Awaitable[dict[str, Any]]]


async def server_live(router: "Router", request: Any) -> dict[str, Any]:
    return {"live": True}


async def server_ready(router: "Router", request: Any) -> dict[str, Any]:
    return {"ready": router.startup_complete}


async def model_ready(router: "Router", request: Any) -> dict[str, Any]:
    """Return whether the model is ready.

    An unknown model is not ready, and no error, because clients poll this rpc to wait for a model.
    """
    try:
        return {"ready": service.find_card(router, request.name, request.version).state == "ready"}
    except ModelNotFound:
        return {"ready": False}


async def server_metadata(router: "Router", request: Any) -> dict[str, Any]:
    return service.server_metadata().model_dump()


async def model_metadata(router: "Router", request: Any) -> dict[str, Any]:
    metadata = service.model_metadata(router, request.name, request.version)
    return metadata.model_dump(exclude={"parameters"})


async def model_infer(router: "Router", request: Any) -> dict[str, Any]:
    inference = parse_inference(request)
    tensors = await service.infer(router, request.model_name, request.model_version, inference)
    return infer_response(request, tensors)


async def model_statistics(router: "Router", request: Any) -> dict[str, Any]:
    statistics = await service.model_statistics(router, request.name, request.version)
    return {"model_stats": [model.model_dump() for model in statistics]}


async def repository_index(router: "Router", request: Any) -> dict[str, Any]:
    _check_repository(request)
    return {"models": [model.model_dump() for model in service.repository_index(router, request.ready)]}


async def repository_model_load(router: "Router", request: Any) -> dict[str, Any]:
    _check_repository(request)
    await service.load(router, request.model_name, parameters_of(request))
    return {}


async def repository_model_unload(router: "Router", request: Any) -> dict[str, Any]:
    _check_repository(request)
    await service.unload(router, request.model_name, parameters_of(request))
    return {}


HANDLERS: dict[str, Handler] = {
    "ServerLive": server_live,
    "ServerReady": server_ready,
    "ModelReady": model_ready,
    "ServerMetadata": server_metadata,
    "ModelMetadata": model_metadata,
    "ModelInfer": model_infer,
    "ModelStatistics": model_statistics,
    "RepositoryIndex": repository_index,
    "RepositoryModelLoad": repository_model_load,
    "RepositoryModelUnload": repository_model_unload,
}


def rpcs(pool: DescriptorPool | None = None) -> list[Rpc]:
    """Return all unary rpcs, and add their messages to `pool` (the default one)."""
    classes = message_classes(pool)
    return [_rpc(name, handler, *classes[name]) for name, handler in HANDLERS.items()]


def _rpc(name: str, handler: Handler, request_class: type[Message], response_class: type[Message]) -> Rpc:
    async def call(router: "Router", raw: bytes, metadata: Mapping[str, str]) -> bytes:
        response = response_class(**await handler(router, parse_message(request_class, raw)))
        serialized: bytes = response.SerializeToString()
        return serialized

    return Rpc(SERVICE, name, call)


def _check_repository(request: Any) -> None:
    if request.repository_name:
        raise InvalidInput("`repository_name` is not supported; leave it out", field="repository_name")
