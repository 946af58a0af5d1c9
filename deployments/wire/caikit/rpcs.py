"""Describe Caikit's rpcs: one per task, and those of the info service."""

from google.protobuf.descriptor_pool import DescriptorPool
from pydantic import BaseModel

from deployments.dialect import Rpc
from deployments.task import TASKS
from deployments.wire import protobuf
from deployments.wire.caikit.info import get_models_info, get_runtime_info
from deployments.wire.caikit.predict import Handle, Method, Predict
from deployments.wire.caikit.types import (
    ModelInfoRequest,
    ModelInfoResponse,
    RuntimeInfoRequest,
    RuntimeInfoResponse,
)

INFO, INFORMED = "caikit.runtime.info", "caikit_data_model.common.runtime"


def predicts() -> list[Predict]:
    return [Predict(task) for task in sorted(TASKS.values(), key=lambda task: task.name)]


def methods(pool: DescriptorPool | None = None) -> list[Method]:
    """Every rpc, its messages described in `pool` (the default one)."""

    def info(name: str, request: type[BaseModel], answer: type[BaseModel], handle: Handle) -> Method:
        asked, answered = (protobuf.message_class(schema, INFORMED, pool) for schema in (request, answer))
        return Method(f"{INFO}.InfoService", name, asked, answered, handle)

    return [
        *(predict.method(pool) for predict in predicts()),
        info("GetRuntimeInfo", RuntimeInfoRequest, RuntimeInfoResponse, get_runtime_info),
        info("GetModelsInfo", ModelInfoRequest, ModelInfoResponse, get_models_info),
    ]


def rpcs(pool: DescriptorPool | None = None) -> list[Rpc]:
    made = methods(pool)
    for service in dict.fromkeys(method.service for method in made):
        pairs = {one.name: (one.request, one.answer) for one in made if one.service == service}
        protobuf.add_service(service, pairs, pool)
    return [method.rpc() for method in made]
