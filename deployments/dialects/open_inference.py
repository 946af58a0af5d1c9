"""The Open Inference Protocol, version 2, for clients of KServe, Triton and MLServer: HTTP and gRPC.

    tritonclient.http.InferenceServerClient("127.0.0.1:8000").infer("sentiment", [text])

Tensors carry a task's fields: row n of each is item n (`tensor_inputs`, `tensor_outputs`). A model has one
version, "1". Parameters of Triton's scheduler (sequences, priority, timeout) have no effect.
"""

from pydantic import BaseModel

from deployments.dialect import Dialect, Endpoint, Operation, SupportedCall
from deployments.task import Task
from deployments.wire.open_inference import (
    bodies,
    generate,
    handlers,
    messages,
    rpcs,
    service,
    stream,
    tensor_inputs,
)
from deployments.wire.open_inference import types as wire
from deployments.wire.open_inference.errors import Failure, error_response
from deployments.wire.open_inference.parameters import IGNORED_PARAMETERS, IGNORED_TENSOR_PARAMETERS
from deployments.wire.open_inference.protos import SERVICE, STREAMING

MODEL, REPOSITORY = "/v2/models/{model_id}", "/v2/repository"


def operations() -> list[Operation]:
    """Return the routes of the server, of a model (with or without its version), and of the repository."""
    generation = generate.request_type()
    return [
        _get("/v2", handlers.show_server, "Show the server's metadata", wire.ServerMetadata),
        _get("/v2/health/live", handlers.check_live, "Check that the server is live", wire.Live),
        _get("/v2/health/ready", handlers.check_ready, "Check that the models have loaded", wire.Ready),
        _get("/v2/models", handlers.list_models, "List the names of all models", wire.ModelNames),
        _get(
            "/v2/models/stats", handlers.show_statistics, "Show the statistics of all models", wire.Statistics
        ),
        *_model_operations(MODEL, generation),
        *_model_operations(f"{MODEL}/versions/{{version}}", generation),
        Operation(
            "POST",
            f"{REPOSITORY}/index",
            handlers.list_repository,
            "List all models and their states",
            body=wire.IndexRequest,
            response=wire.RepositoryIndex,
        ),
        *(
            Operation(
                "POST",
                f"{REPOSITORY}/models/{{model_id}}/{verb}",
                endpoint,
                f"{verb.capitalize()} a model and wait until it has finished",
                body=body,
                response=wire.Nothing,
            )
            for verb, endpoint, body in (
                ("load", handlers.load, wire.LoadRequest),
                ("unload", handlers.unload, wire.UnloadRequest),
            )
        ),
    ]


def _model_operations(path: str, generation: type[BaseModel]) -> list[Operation]:
    return [
        _get(path, handlers.show_model, "Show a model's metadata", wire.ModelMetadata),
        _get(f"{path}/ready", handlers.check_model, "Check that a model is ready", wire.ModelReady),
        _get(f"{path}/stats", handlers.show_statistics, "Show a model's statistics", wire.Statistics),
        Operation(
            "POST",
            f"{path}/infer",
            handlers.infer,
            "Run inference on tensors",
            body=wire.InferRequest,
            response=wire.InferResponse,
            raw_body="application/octet-stream",
        ),
        Operation(
            "POST",
            f"{path}/generate",
            generate.generate,
            "Continue a text",
            body=generation,
            response=wire.GenerateResponse,
        ),
        Operation(
            "POST",
            f"{path}/generate_stream",
            generate.generate_stream,
            "Continue a text, as a stream of events",
            body=generation,
            event=wire.GenerateResponse,
        ),
    ]


IGNORED_FIELDS = frozenset(
    {
        *wire.IGNORED_FIELDS,
        *(f"parameters.{name}" for name in IGNORED_PARAMETERS),
        *(f"inputs.parameters.{name}" for name in IGNORED_TENSOR_PARAMETERS),
        *(f"outputs.parameters.{name}" for name in IGNORED_TENSOR_PARAMETERS),
        *("generate.id", "generate.stream"),
        "parameters.unload_dependents",  # no model here has any
    }
)


def _get(path: str, endpoint: Endpoint, summary: str, response: type[BaseModel]) -> Operation:
    return Operation("GET", path, endpoint, summary, response=response)


def supported_calls(task: Task, model_id: str) -> list[SupportedCall]:
    """Return inference over HTTP and gRPC, and generation if the task supports it."""
    tensors, path = tensor_inputs.example_tensors(task), MODEL.format(model_id=model_id)
    message = messages.example_message(model_id, tensors)
    calls = [
        SupportedCall("POST", f"{path}/infer", bodies.example_body(tensors)),
        SupportedCall("RPC", f"{SERVICE}/ModelInfer", message),
        SupportedCall("RPC", f"{SERVICE}/{STREAMING}", message, streams=generate.can_stream(task)),
    ]
    if generate.can_generate(task):
        calls.append(SupportedCall("POST", f"{path}/generate", generate.example_body(task)))
    if generate.can_stream(task):
        calls.append(
            SupportedCall("POST", f"{path}/generate_stream", generate.example_body(task), streams=True)
        )
    return calls


dialect = Dialect(
    name=service.DIALECT,
    error_response=error_response,
    operations=operations,
    rpcs=lambda: [*rpcs.rpcs(), stream.stream_rpc()],
    supported_calls=supported_calls,
    error=Failure,
    ignored_fields=IGNORED_FIELDS,
    extra_error_responses={415: "the Content-Encoding is neither gzip nor deflate"},
)
