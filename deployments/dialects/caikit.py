"""Caikit: one rpc and one route per task. A gRPC request names its model in the metadata, HTTP in the body.

    grpcurl -plaintext -H 'mm-model-id: sentiment' -d '{"text_in": "I loved it."}' \\
        127.0.0.1:9000 caikit.runtime.Runtime.RuntimeService/SentimentTaskPredict

`deployments.wire.caikit.types` maps a task's fields to Caikit's names.
"""

from deployments.dialect import Dialect, Operation, SupportedCall
from deployments.task import Task
from deployments.wire import protobuf
from deployments.wire.caikit.errors import CaikitError, error_response
from deployments.wire.caikit.info import health, info_models, info_version
from deployments.wire.caikit.predict import NAME, TaskEndpoint
from deployments.wire.caikit.rpcs import rpcs, task_endpoints
from deployments.wire.caikit.types import ModelInfoResponse, RuntimeInfoResponse


def operations() -> list[Operation]:
    """Return a route for each task, the health check and the routes of the info service."""
    versions, models = "Show the versions of the serving packages", "Show which models are loaded"
    return [
        *(endpoint.operation() for endpoint in task_endpoints()),
        Operation("GET", "/health", health, "Check whether the models have loaded"),
        Operation("GET", "/info/version", info_version, versions, response=RuntimeInfoResponse),
        Operation("GET", "/info/models", info_models, models, response=ModelInfoResponse),
    ]


def supported_calls(task: Task, model_id: str) -> list[SupportedCall]:
    """Return calls of the task's route and of its rpc."""
    endpoint = TaskEndpoint(task)
    rpc, values = endpoint.typed_rpc(None), endpoint.example()
    raw = protobuf.serialize(rpc.request, endpoint.request.model_validate(values))
    inputs = values if len(values) > 1 else next(iter(values.values()))
    return [
        SupportedCall("POST", f"/api/v1/task/{task.name}", {"inputs": inputs, "model_id": model_id}),
        SupportedCall("RPC", f"{rpc.service}/{rpc.name}", raw, {"mm-model-id": model_id}),
    ]


dialect = Dialect(
    name=NAME,
    error_response=error_response,
    operations=operations,
    rpcs=rpcs,
    supported_calls=supported_calls,
    error=CaikitError,
    extra_error_responses={
        415: "a Content-Type that is neither JSON nor a form; a Content-Encoding, except gzip and deflate",
        422: "a body of the wrong shape",
    },
)
