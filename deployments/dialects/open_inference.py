"""The Open Inference Protocol, version 2, as clients of KServe, Triton and MLServer speak it: HTTP and gRPC.

    tritonclient.http.InferenceServerClient("127.0.0.1:8000").infer("sentiment", [text])

Tensors carry a task's fields: row n of each is item n (`tensor_inputs`, `tensor_outputs`). A model has one
version, "1". What a client sends for Triton's scheduler (sequences, priority, timeout) is not heeded.
"""

from typing import Any

from pydantic import BaseModel

from deployments.dialect import Dialect, Endpoint, Operation, SupportedCall
from deployments.task import Task
from deployments.wire.open_inference import bodies, generate, handlers, rpcs, service, stream, tensor_inputs
from deployments.wire.open_inference import types as wire
from deployments.wire.open_inference.errors import Failure, error_response
from deployments.wire.open_inference.protos import SERVICE, STREAMING

MODEL, REPOSITORY = "/v2/models/{model_id}", "/v2/repository"


def operations() -> list[Operation]:
    """What can be asked of the server, of a model (with its version or without), and of the repository."""
    return [
        _get("/v2", handlers.show_server, "Show the server's metadata", wire.ServerMetadata),
        _get("/v2/health/live", handlers.check_live, "Tell that the server is live", wire.Live),
        _get("/v2/health/ready", handlers.check_ready, "Tell whether the models have loaded", wire.Ready),
        _get("/v2/models", handlers.list_models, "List every model's name", wire.ModelNames),
        _get("/v2/models/stats", handlers.show_statistics, "Show all statistics", wire.Statistics),
        *_of_model(MODEL),
        *_of_model(f"{MODEL}/versions/{{version}}"),
        Operation(
            "POST",
            f"{REPOSITORY}/index",
            handlers.list_repository,
            "List every model and its state",
            body=wire.IndexRequest,
            response=wire.RepositoryIndex,
        ),
        *(
            Operation(
                "POST",
                f"{REPOSITORY}/models/{{model_id}}/{verb}",
                endpoint,
                f"{verb.capitalize()} a model, and wait until it is done",
                body=wire.LoadRequest,
                response=wire.Nothing,
            )
            for verb, endpoint in {"load": handlers.load, "unload": handlers.unload}.items()
        ),
    ]


def _of_model(path: str) -> list[Operation]:
    generated: dict[str, Any] = {"body": wire.GenerateRequest}
    return [
        _get(path, handlers.show_model, "Show a model's metadata", wire.ModelMetadata),
        _get(f"{path}/ready", handlers.check_model, "Tell whether a model answers", wire.ModelReady),
        _get(f"{path}/stats", handlers.show_statistics, "Show a model's statistics", wire.Statistics),
        Operation(
            "POST",
            f"{path}/infer",
            handlers.infer,
            "Perform a model's task on tensors",
            body=wire.InferRequest,
            response=wire.InferResponse,
            raw_body="application/octet-stream",
        ),
        Operation(
            "POST",
            f"{path}/generate",
            generate.generate,
            "Go on from a text",
            response=wire.GenerateResponse,
            **generated,
        ),
        Operation(
            "POST",
            f"{path}/generate_stream",
            generate.generate_stream,
            "Go on from a text, piece by piece",
            event=wire.GenerateResponse,
            **generated,
        ),
    ]


def _get(path: str, endpoint: Endpoint, summary: str, answer: type[BaseModel]) -> Operation:
    return Operation("GET", path, endpoint, summary, response=answer)


def supported_calls(task: Task, model_id: str) -> list[SupportedCall]:
    """Inference over HTTP and gRPC, and generation where the task generates."""
    tensors, path = tensor_inputs.example(task), MODEL.format(model_id=model_id)
    message = rpcs.example(model_id, tensors)
    offered = [
        SupportedCall("POST", f"{path}/infer", bodies.example(tensors)),
        SupportedCall("RPC", f"{SERVICE}/ModelInfer", message),
        SupportedCall("RPC", f"{SERVICE}/{STREAMING}", message, streams=generate.streams(task)),
    ]
    if generate.generates(task):
        offered.append(SupportedCall("POST", f"{path}/generate", generate.example(task)))
    if generate.streams(task):
        offered.append(SupportedCall("POST", f"{path}/generate_stream", generate.example(task), streams=True))
    return offered


dialect = Dialect(
    name=service.NAME,
    error_response=error_response,
    operations=operations,
    rpcs=lambda: [*rpcs.rpcs(), stream.rpc()],
    supported_calls=supported_calls,
    error=Failure,
    extra_error_responses={415: "a Content-Encoding that is neither gzip nor deflate"},
)
