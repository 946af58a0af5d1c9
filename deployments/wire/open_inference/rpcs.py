"""The Open Inference Protocol's unary rpcs, for clients' own stubs.

A request's tensors are in the message's typed lists or, all of them, in `raw_input_contents`; the response's
tensors are in the same place.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from deployments.dialect import Rpc
from deployments.errors import InvalidInput, ModelNotFound
from deployments.wire.open_inference import service
from deployments.wire.open_inference.bodies import InferenceRequest
from deployments.wire.open_inference.protos import SERVICE, message_classes
from deployments.wire.open_inference.tensor_outputs import RequestedOutput
from deployments.wire.open_inference.tensors import Tensor, count, from_bytes, from_json, to_bytes
from deployments.wire.open_inference.types import MAX_TENSORS, VERSION
from deployments.wire.protobuf import parse_message

if TYPE_CHECKING:
    from deployments.routing.router import Router

CONTENTS = {
    "BYTES": "bytes_contents",
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}

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
    return {"models": [model.model_dump() for model in service.repository_index(router, request.ready)]}


async def repository_model_load(router: "Router", request: Any) -> dict[str, Any]:
    await service.load(router, request.model_name, _parameters(request.parameters))
    return {}


async def repository_model_unload(router: "Router", request: Any) -> dict[str, Any]:
    await service.unload(router, request.model_name, _parameters(request.parameters))
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


def parse_inference(request: Any) -> InferenceRequest:
    """Parse a ModelInferRequest. Raises `InvalidInput`."""
    outputs = _check_count(request.outputs)
    requested = [RequestedOutput(output.name, _parameters(output.parameters)) for output in outputs]
    return InferenceRequest(_parse_inputs(request), _parameters(request.parameters), requested)


def infer_response(request: Any, tensors: Sequence[Tensor], **parameters: bool) -> dict[str, Any]:
    """Return the fields of a ModelInferResponse; its tensors are raw if the request's are."""
    raw = len(request.raw_input_contents) > 0
    return {
        "model_name": request.model_name,
        "model_version": VERSION,
        "id": request.id,
        "parameters": {name: {"bool_param": value} for name, value in parameters.items()},
        "outputs": [_tensor_fields(tensor, typed=not raw) for tensor in tensors],
        "raw_output_contents": [to_bytes(tensor) for tensor in tensors] if raw else [],
    }


def example_message(model_id: str, tensors: Sequence[Tensor]) -> bytes:
    """Return a serialized ModelInferRequest."""
    request_class, _ = message_classes()["ModelInfer"]
    inputs = [_tensor_fields(tensor, typed=True) for tensor in tensors]
    serialized: bytes = request_class(model_name=model_id, inputs=inputs).SerializeToString()
    return serialized


def _rpc(name: str, handler: Handler, request_class: type[Message], response_class: type[Message]) -> Rpc:
    async def call(router: "Router", raw: bytes, metadata: Mapping[str, str]) -> bytes:
        response = response_class(**await handler(router, parse_message(request_class, raw)))
        serialized: bytes = response.SerializeToString()
        return serialized

    return Rpc(SERVICE, name, call)


def _check_count(tensors: Any) -> Any:
    if len(tensors) > MAX_TENSORS:
        raise InvalidInput(f"a request may have at most {MAX_TENSORS} inputs and {MAX_TENSORS} outputs")
    return tensors


def _parameters(messages: Mapping[str, Any]) -> dict[str, Any]:
    choices = {name: message.WhichOneof("parameter_choice") for name, message in messages.items()}
    return {name: getattr(messages[name], choice) for name, choice in choices.items() if choice}


def _parse_inputs(request: Any) -> list[Tensor]:
    inputs, raw = _check_count(request.inputs), request.raw_input_contents
    if not raw:
        return [_to_tensor(input, _typed_values(input)) for input in inputs]
    if len(raw) != len(inputs) or any(input.contents.ByteSize() for input in inputs):
        raise InvalidInput("`raw_input_contents` must hold all inputs, one element each, or none")
    return [
        _to_tensor(input, from_bytes(input.name, input.datatype, input.shape, memoryview(data)))
        for input, data in zip(inputs, raw, strict=True)
    ]


def _to_tensor(input: Any, values: list[Any]) -> Tensor:
    return Tensor(input.name, input.datatype, tuple(input.shape), values, _parameters(input.parameters))


def _typed_values(input: Any) -> list[Any]:
    elements = count(input.name, input.datatype, input.shape)
    if input.datatype not in CONTENTS:
        raise InvalidInput(f"{input.name!r} is {input.datatype}, which only `raw_input_contents` can hold")
    values = getattr(input.contents, CONTENTS[input.datatype])
    if len(values) != elements:  # checked before the copy
        raise InvalidInput(f"{input.name!r} has {len(values):,} elements; its shape needs {elements:,}")
    return from_json(input.name, input.datatype, input.shape, list(values))


def _tensor_fields(tensor: Tensor, *, typed: bool) -> dict[str, Any]:
    parameters = {name: {"string_param": value} for name, value in tensor.parameters.items()}
    fields = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
        "parameters": parameters,
    }
    return {**fields, "contents": {CONTENTS[tensor.datatype]: tensor.values}} if typed else fields
