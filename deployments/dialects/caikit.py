"""Caikit: one rpc and one route per task. A request names its model: in metadata over gRPC, else in its body.

    grpcurl -plaintext -H 'mm-model-id: sentiment' -d '{"text_in": "I loved it."}' \\
        127.0.0.1:9000 caikit.runtime.Runtime.RuntimeService/SentimentTaskPredict

What a task's words are called here is said in `deployments.wire.caikit.types`.
"""

from deployments.dialect import Dialect, Operation, SupportedCall
from deployments.task import Task
from deployments.wire import protobuf
from deployments.wire.caikit.errors import CaikitFailure, error_response
from deployments.wire.caikit.info import health, info_models, info_version
from deployments.wire.caikit.predict import NAME, Predict
from deployments.wire.caikit.rpcs import predicts, rpcs
from deployments.wire.caikit.types import ModelInfoResponse, RuntimeInfoResponse


def operations() -> list[Operation]:
    return [
        *(predict.operation() for predict in predicts()),
        Operation("GET", "/health", health, "OK once the models are loaded."),
        Operation(
            "GET", "/info/version", info_version, "Versions of what serves.", response=RuntimeInfoResponse
        ),
        Operation(
            "GET",
            "/info/models",
            info_models,
            "Models and whether they are loaded.",
            response=ModelInfoResponse,
        ),
    ]


def supported_calls(task: Task, model_id: str) -> list[SupportedCall]:
    """The task's route, and its rpc."""
    predict = Predict(task)
    method, given = predict.method(None), predict.example()
    raw = protobuf.serialize(method.request, predict.request.model_validate(given))
    inputs = given if len(given) > 1 else next(iter(given.values()))
    return [
        SupportedCall("POST", f"/api/v1/task/{task.name}", {"inputs": inputs, "model_id": model_id}),
        SupportedCall("RPC", f"{method.service}/{method.name}", raw, {"mm-model-id": model_id}),
    ]


dialect = Dialect(
    name=NAME,
    error_response=error_response,
    operations=operations,
    rpcs=rpcs,
    supported_calls=supported_calls,
    error=CaikitFailure,
    extra_error_responses={
        415: "a Content-Type that is neither JSON nor a form",
        422: "a body of the wrong shape",
    },
)
