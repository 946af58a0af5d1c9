"""Convert the messages of `ModelInfer`: requests to tensors, and tensors to responses.

A request's tensors are in the message's typed lists or, all of them, in `raw_input_contents`; the response's
tensors are in the same place.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from deployments.errors import InvalidInput
from deployments.wire.http import validate
from deployments.wire.open_inference.bodies import InferenceRequest
from deployments.wire.open_inference.parameters import (
    InputParameters,
    OutputParameters,
    RequestParameters,
    given,
)
from deployments.wire.open_inference.protos import message_classes
from deployments.wire.open_inference.tensor_outputs import RequestedOutput
from deployments.wire.open_inference.tensors import Tensor, count, from_bytes, from_json, to_bytes
from deployments.wire.open_inference.types import MAX_TENSORS, VERSION

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


def parse_inference(request: Any) -> InferenceRequest:
    """Parse a ModelInferRequest. Raises `InvalidInput`."""
    requested = [
        RequestedOutput(output.name, _typed_parameters(OutputParameters, output, f"outputs[{index}]."))
        for index, output in enumerate(_check_count(request.outputs))
    ]
    return InferenceRequest(_parse_inputs(request), _typed_parameters(RequestParameters, request), requested)


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


def parameters_of(owner: Any) -> dict[str, Any]:
    """Return the parameters of a message, without those that have no value."""
    messages = owner.parameters
    choices = {name: message.WhichOneof("parameter_choice") for name, message in messages.items()}
    return {name: getattr(messages[name], choice) for name, choice in choices.items() if choice}


def _check_count(tensors: Any) -> Any:
    if len(tensors) > MAX_TENSORS:
        raise InvalidInput(f"a request may have at most {MAX_TENSORS} inputs and {MAX_TENSORS} outputs")
    return tensors


def _typed_parameters(schema: type[BaseModel], owner: Any, path: str = "") -> dict[str, Any]:
    """Return the parameters of a message. Raises `InvalidInput` for one that `schema` refuses."""
    return given(validate(schema, parameters_of(owner), f"{path}parameters"))


def _parse_inputs(request: Any) -> list[Tensor]:
    inputs, raw = _check_count(request.inputs), request.raw_input_contents
    if not raw:
        return [_to_tensor(index, input, _typed_values(input)) for index, input in enumerate(inputs)]
    if len(raw) != len(inputs) or any(input.contents.ByteSize() for input in inputs):
        raise InvalidInput("`raw_input_contents` must hold all inputs, one element each, or none")
    return [
        _to_tensor(index, input, from_bytes(input.name, input.datatype, input.shape, memoryview(data)))
        for index, (input, data) in enumerate(zip(inputs, raw, strict=True))
    ]


def _to_tensor(index: int, input: Any, values: list[Any]) -> Tensor:
    parameters = _typed_parameters(InputParameters, input, f"inputs[{index}].")
    return Tensor(input.name, input.datatype, tuple(input.shape), values, parameters)


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
