"""The Open Inference Protocol's HTTP bodies: JSON, with tensors after it in binary where a client likes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel
from starlette.responses import Response

from deployments.errors import InvalidInput
from deployments.wire.http import json_response, read_json, validate
from deployments.wire.open_inference.tensor_outputs import Wanted
from deployments.wire.open_inference.tensors import Tensor, from_bytes, from_json, to_bytes, to_json
from deployments.wire.open_inference.types import VERSION, InferInput, InferRequest

HEADER = "inference-header-content-length"

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Inference:
    """One request for inference, whichever way it came; `wanted` are the outputs that it names."""

    inputs: list[Tensor]
    parameters: dict[str, Any] = field(default_factory=dict)
    wanted: list[Wanted] = field(default_factory=list)
    id: str | None = None


def parse(schema: type[M], body: bytes) -> M:
    """The JSON body as `schema`; an empty one is an empty object.

    Raises `InvalidInput` that names the field, or `TooLarge`.
    """
    return validate(schema, read_json(body or b"{}"))


def read_inference(header: str | None, body: bytes) -> Inference:
    """The request in a body of which the first `header` bytes are JSON (all of it, if None).

    Where these are none, the body is the lone element of the lone input. Raises `InvalidInput`, `TooLarge`.
    """
    size = _header_size(header, body)
    if size == 0 and header is not None:
        return Inference([Tensor("", "BYTES", (1,), [body])])
    asked = parse(InferRequest, body[:size])
    tail = _Tail(memoryview(body)[size:])
    inputs = [_input(one, tail) for one in asked.inputs]
    if tail.rest:
        raise InvalidInput(f"there are {len(tail.rest):,} bytes after the last tensor")
    wanted = [Wanted(one.name, one.parameters or {}) for one in asked.outputs or []]
    return Inference(inputs, asked.parameters or {}, wanted, asked.id)


def write_inference(model_id: str, asked: Inference, tensors: Sequence[Tensor]) -> Response:
    """The answer: JSON, and after it those tensors that were asked for in binary."""
    wanted = {one.name: one.parameters for one in asked.wanted}
    default = asked.parameters.get("binary_data_output") is True
    outputs, tail = [], []
    for tensor in tensors:
        told: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        parameters = dict(tensor.parameters)
        if wanted.get(tensor.name, {}).get("binary_data", default) is True:
            tail.append(to_bytes(tensor))
            outputs.append({**told, "parameters": {**parameters, "binary_data_size": len(tail[-1])}})
        else:
            outputs.append({**told, "parameters": parameters, "data": to_json(tensor)})
    id = {} if asked.id is None else {"id": asked.id}
    answer = {"model_name": model_id, "model_version": VERSION, **id, "outputs": outputs}
    if not tail:
        return json_response(answer)
    head = orjson.dumps(answer)
    return Response(
        b"".join([head, *tail]), media_type="application/octet-stream", headers={HEADER: str(len(head))}
    )


def example(tensors: Sequence[Tensor]) -> dict[str, Any]:
    """Return the JSON body of a request for inference."""
    inputs = [
        {
            "name": one.name,
            "datatype": one.datatype,
            "shape": one.shape,
            "parameters": one.parameters,
            "data": to_json(one),
        }
        for one in tensors
    ]
    return {"inputs": inputs}


class _Tail:
    """What comes after the JSON, tensor by tensor."""

    def __init__(self, rest: memoryview) -> None:
        self.rest = rest

    def take(self, name: str, size: Any) -> memoryview:
        if type(size) is not int or not 0 <= size <= len(self.rest):
            raise InvalidInput(f"the `binary_data_size` of {name!r} is not what was sent: {size!r}")
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken


def _header_size(header: str | None, body: bytes) -> int:
    if header is None:
        return len(body)
    if not (header.isascii() and header.isdigit() and len(header) < 12 and int(header) <= len(body)):
        raise InvalidInput("Inference-Header-Content-Length is how many bytes of the body are JSON")
    return int(header)


def _input(told: InferInput, tail: _Tail) -> Tensor:
    parameters = told.parameters or {}
    name, datatype, shape = told.name, str(told.datatype), tuple(told.shape)
    if (size := parameters.get("binary_data_size")) is not None:
        values = from_bytes(name, datatype, shape, tail.take(name, size))
    elif told.data is None:
        raise InvalidInput(f"the input {name!r} has no data")
    else:
        values = from_json(name, datatype, shape, told.data)
    return Tensor(name, datatype, shape, values, parameters)
