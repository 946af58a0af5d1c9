"""Parse and write the Open Inference Protocol's HTTP bodies: JSON, then optional tensors in binary."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel
from starlette.responses import Response

from deployments.errors import InvalidInput
from deployments.wire.http import json_response, read_json, validate
from deployments.wire.open_inference.parameters import given
from deployments.wire.open_inference.tensor_outputs import RequestedOutput
from deployments.wire.open_inference.tensors import Tensor, from_bytes, from_json, to_bytes, to_json
from deployments.wire.open_inference.types import VERSION, InferInput, InferRequest

HEADER = "inference-header-content-length"

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class InferenceRequest:
    """A request for inference, over HTTP or gRPC. If it requests no outputs, the response has all."""

    inputs: list[Tensor]
    parameters: dict[str, Any] = field(default_factory=dict)
    requested: list[RequestedOutput] = field(default_factory=list)
    id: str | None = None


def parse_body(schema: type[M], body: bytes) -> M:
    """Parse a JSON body as `schema`; an empty body is an empty object.

    Raises `InvalidInput` that names the field, or `TooLarge`.
    """
    return validate(schema, read_json(body or b"{}"))


def parse_inference(header: str | None, body: bytes) -> InferenceRequest:
    """Parse a body whose first `header` bytes are JSON; if `header` is None, all bytes are JSON.

    If `header` is 0, the body is the only element of the only input. Raises `InvalidInput`, `TooLarge`.
    """
    size = _json_size(header, body)
    if size == 0 and header is not None:
        return InferenceRequest([Tensor("", "BYTES", (1,), [body])])
    body_json = parse_body(InferRequest, body[:size])
    binary = _BinaryData(memoryview(body)[size:])
    inputs = [_parse_input(tensor, binary) for tensor in body_json.inputs]
    if binary.rest:
        raise InvalidInput(f"there are {len(binary.rest):,} bytes after the last tensor")
    requested = [RequestedOutput(output.name, given(output.parameters)) for output in body_json.outputs or []]
    return InferenceRequest(inputs, given(body_json.parameters), requested, body_json.id)


def inference_response(model_id: str, request: InferenceRequest, tensors: Sequence[Tensor]) -> Response:
    """Return the response: JSON, then the tensors that the request wants in binary."""
    requested = {output.name: output.parameters for output in request.requested}
    default = request.parameters.get("binary_data_output") is True
    outputs, binary = [], []
    for tensor in tensors:
        header: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        parameters = dict(tensor.parameters)
        if requested.get(tensor.name, {}).get("binary_data", default) is True:
            binary.append(to_bytes(tensor))
            outputs.append({**header, "parameters": {**parameters, "binary_data_size": len(binary[-1])}})
        else:
            outputs.append({**header, "parameters": parameters, "data": to_json(tensor)})
    id = {} if request.id is None else {"id": request.id}
    response = {"model_name": model_id, "model_version": VERSION, **id, "outputs": outputs}
    if not binary:
        return json_response(response)
    json = orjson.dumps(response)
    return Response(
        b"".join([json, *binary]), media_type="application/octet-stream", headers={HEADER: str(len(json))}
    )


def example_body(tensors: Sequence[Tensor]) -> dict[str, Any]:
    """Return the JSON body of a request for inference."""
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
            "parameters": tensor.parameters,
            "data": to_json(tensor),
        }
        for tensor in tensors
    ]
    return {"inputs": inputs}


class _BinaryData:
    """The bytes after the JSON; `rest` are those that no tensor has read yet."""

    def __init__(self, rest: memoryview) -> None:
        self.rest = rest

    def read(self, name: str, size: Any) -> memoryview:
        if type(size) is not int or not 0 <= size <= len(self.rest):
            raise InvalidInput(f"the `binary_data_size` of {name!r} does not match the body: {size!r}")
        data, self.rest = self.rest[:size], self.rest[size:]
        return data


def _json_size(header: str | None, body: bytes) -> int:
    if header is None:
        return len(body)
    if not (header.isascii() and header.isdigit() and len(header) < 12 and int(header) <= len(body)):
        raise InvalidInput("Inference-Header-Content-Length must be the number of bytes of the JSON part")
    return int(header)


def _parse_input(tensor: InferInput, binary: _BinaryData) -> Tensor:
    parameters = given(tensor.parameters)
    name, datatype, shape = tensor.name, str(tensor.datatype), tuple(tensor.shape)
    if (size := parameters.get("binary_data_size")) is not None:
        values = from_bytes(name, datatype, shape, binary.read(name, size))
    elif tensor.data is None:
        raise InvalidInput(f"the input {name!r} has no data")
    else:
        values = from_json(name, datatype, shape, tensor.data)
    return Tensor(name, datatype, shape, values, parameters)
