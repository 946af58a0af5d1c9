"""Caikit's rpcs: one per task, and those of the info service."""

from google.protobuf.descriptor_pool import DescriptorPool
from pydantic import BaseModel

from deployments.dialect import Rpc
from deployments.task import TASKS
from deployments.wire import protobuf
from deployments.wire.caikit.info import get_models_info, get_runtime_info
from deployments.wire.caikit.predict import RpcHandler, TaskEndpoint, TypedRpc
from deployments.wire.caikit.types import (
    ModelInfoRequest,
    ModelInfoResponse,
    RuntimeInfoRequest,
    RuntimeInfoResponse,
)

INFO_PACKAGE, INFO_TYPES_PACKAGE = "caikit.runtime.info", "caikit_data_model.common.runtime"


def task_endpoints() -> list[TaskEndpoint]:
    """Return the endpoint of every task, sorted by the task's name."""
    return [TaskEndpoint(task) for task in sorted(TASKS.values(), key=lambda task: task.name)]


def typed_rpcs(pool: DescriptorPool | None = None) -> list[TypedRpc]:
    """Return every rpc; `pool` (the default one) describes the messages."""

    def info(name: str, request: type[BaseModel], response: type[BaseModel], handler: RpcHandler) -> TypedRpc:
        return TypedRpc(
            f"{INFO_PACKAGE}.InfoService",
            name,
            protobuf.message_class(request, INFO_TYPES_PACKAGE, pool),
            protobuf.message_class(response, INFO_TYPES_PACKAGE, pool),
            handler,
        )

    return [
        *(endpoint.typed_rpc(pool) for endpoint in task_endpoints()),
        info("GetRuntimeInfo", RuntimeInfoRequest, RuntimeInfoResponse, get_runtime_info),
        info("GetModelsInfo", ModelInfoRequest, ModelInfoResponse, get_models_info),
    ]


def rpcs(pool: DescriptorPool | None = None) -> list[Rpc]:
    """Return every rpc with raw messages, and describe the services in `pool` for reflection."""
    typed = typed_rpcs(pool)
    for service in dict.fromkeys(rpc.service for rpc in typed):
        messages = {rpc.name: (rpc.request, rpc.response) for rpc in typed if rpc.service == service}
        protobuf.add_service(service, messages, pool)
    return [rpc.raw() for rpc in typed]
