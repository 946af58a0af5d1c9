"""The Open Inference Protocol's rpcs, for the stubs that its clients bring.

Tensors come in a message's typed lists or, all of them, in `raw_input_contents`, and are answered alike.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

from deployments.dialect import Rpc
from deployments.errors import Internal, InvalidInput, ModelNotFound
from deployments.wire.open_inference import service
from deployments.wire.open_inference.bodies import Inference
from deployments.wire.open_inference.protos import SERVICE, describe
from deployments.wire.open_inference.tensor_outputs import Wanted
from deployments.wire.open_inference.tensors import Tensor, count, from_bytes, from_json, to_bytes
from deployments.wire.open_inference.types import MAX_TENSORS, VERSION

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

Handle = Callable[["Router", Any], Awaitable[dict[str, Any]]]


async def server_live(router: "Router", asked: Any) -> dict[str, Any]:
    return {"live": True}


async def server_ready(router: "Router", asked: Any) -> dict[str, Any]:
    return {"ready": router.startup_complete}


async def model_ready(router: "Router", asked: Any) -> dict[str, Any]:
    """A model that is not there is not ready, as clients expect who wait for it."""
    try:
        return {"ready": service.find(router, asked.name, asked.version).state == "ready"}
    except ModelNotFound:
        return {"ready": False}


async def server_metadata(router: "Router", asked: Any) -> dict[str, Any]:
    return service.server_metadata().model_dump()


async def model_metadata(router: "Router", asked: Any) -> dict[str, Any]:
    return service.model_metadata(router, asked.name, asked.version).model_dump(exclude={"parameters"})


async def model_infer(router: "Router", asked: Any) -> dict[str, Any]:
    tensors = await service.infer(router, asked.model_name, asked.model_version, inference(asked))
    return answered(asked, tensors)


async def model_statistics(router: "Router", asked: Any) -> dict[str, Any]:
    told = await service.statistics(router, asked.name, asked.version)
    return {"model_stats": [one.model_dump() for one in told]}


async def repository_index(router: "Router", asked: Any) -> dict[str, Any]:
    return {"models": [one.model_dump() for one in service.index(router, asked.ready)]}


async def repository_model_load(router: "Router", asked: Any) -> dict[str, Any]:
    await service.load(router, asked.model_name, _parameters(asked.parameters))
    return {}


async def repository_model_unload(router: "Router", asked: Any) -> dict[str, Any]:
    await service.unload(router, asked.model_name, _parameters(asked.parameters))
    return {}


HANDLES: dict[str, Handle] = {
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
    """Every unary rpc, its messages described in `pool` (the default one)."""
    described = describe(pool)
    return [_rpc(name, handle, *described[name]) for name, handle in HANDLES.items()]


def inference(asked: Any) -> Inference:
    """What a message asks. Raises `InvalidInput`."""
    outputs = [Wanted(one.name, _parameters(one.parameters)) for one in _few(asked.outputs)]
    return Inference(_inputs(asked), _parameters(asked.parameters), outputs)


def parse(kind: type[Message], raw: bytes) -> Any:
    """The message, read in gRPC's own way. Raises `Internal`."""
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise Internal("Exception deserializing request!") from None


def answered(asked: Any, tensors: Sequence[Tensor], **parameters: bool) -> dict[str, Any]:
    """The answer to a message, its tensors as the message had its own."""
    raw = len(asked.raw_input_contents) > 0
    return {
        "model_name": asked.model_name,
        "model_version": VERSION,
        "id": asked.id,
        "parameters": {name: {"bool_param": value} for name, value in parameters.items()},
        "outputs": [_output(tensor, typed=not raw) for tensor in tensors],
        "raw_output_contents": [to_bytes(tensor) for tensor in tensors] if raw else [],
    }


def example(model_id: str, tensors: Sequence[Tensor]) -> bytes:
    """A request for inference, serialized."""
    asked, _ = describe()["ModelInfer"]
    inputs = [_output(tensor, typed=True) for tensor in tensors]
    serialized: bytes = asked(model_name=model_id, inputs=inputs).SerializeToString()
    return serialized


def _rpc(name: str, handle: Handle, asked: type[Message], told: type[Message]) -> Rpc:
    async def call(router: "Router", raw: bytes, metadata: Mapping[str, str]) -> bytes:
        serialized: bytes = told(**await handle(router, parse(asked, raw))).SerializeToString()
        return serialized

    return Rpc(SERVICE, name, call)


def _few(tensors: Any) -> Any:
    if len(tensors) > MAX_TENSORS:
        raise InvalidInput(f"a request names at most {MAX_TENSORS} inputs and as many outputs")
    return tensors


def _parameters(told: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: (value, value.WhichOneof("parameter_choice")) for name, value in told.items()}
    return {name: getattr(value, choice) for name, (value, choice) in given.items() if choice}


def _inputs(asked: Any) -> list[Tensor]:
    raw = asked.raw_input_contents
    if not raw:
        return [_tensor(one, _contents(one)) for one in _few(asked.inputs)]
    if len(raw) != len(_few(asked.inputs)) or any(one.contents.ByteSize() for one in asked.inputs):
        raise InvalidInput("`raw_input_contents` holds all inputs, one element each, or none")
    return [
        _tensor(one, from_bytes(one.name, one.datatype, one.shape, memoryview(data)))
        for one, data in zip(asked.inputs, raw, strict=True)
    ]


def _tensor(one: Any, values: list[Any]) -> Tensor:
    return Tensor(one.name, one.datatype, tuple(one.shape), values, _parameters(one.parameters))


def _contents(one: Any) -> list[Any]:
    elements = count(one.name, one.datatype, one.shape)
    if one.datatype not in CONTENTS:
        raise InvalidInput(f"{one.name!r} is {one.datatype}, which only `raw_input_contents` can hold")
    values = getattr(one.contents, CONTENTS[one.datatype])
    if len(values) != elements:  # before they are copied
        raise InvalidInput(f"{one.name!r} has {len(values):,} elements; its shape has {elements:,}")
    return from_json(one.name, one.datatype, one.shape, list(values))


def _output(tensor: Tensor, *, typed: bool) -> dict[str, Any]:
    parameters = {name: {"string_param": value} for name, value in tensor.parameters.items()}
    told = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape, "parameters": parameters}
    return {**told, "contents": {CONTENTS[tensor.datatype]: tensor.values}} if typed else told
