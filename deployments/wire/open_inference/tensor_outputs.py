"""Write a task's outputs as named tensors: `output` holds each item's Hub JSON; the others are typed.

| a field of the output    | is a tensor                                            |
|--------------------------|--------------------------------------------------------|
| str, bool, int, float    | BYTES, BOOL, INT64, FP32 [N]                           |
| a list of these          | the same, [N, K]                                       |
| a list of labels         | BYTES [N, K] by its name, and `scores`, FP32 [N, K]    |
| anything else            | BYTES [N, 1] of JSON                                   |
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, Literal, get_args, get_origin

import orjson

from deployments.errors import InvalidInput
from deployments.schema import Label, Schema
from deployments.wire.annotations import strip_annotated, unwrap_optional
from deployments.wire.open_inference.tensors import Tensor
from deployments.wire.task_json import to_hub_json

OUTPUT = "output"
DATATYPES = {str: "BYTES", bool: "BOOL", int: "INT64", float: "FP32"}


@dataclass(frozen=True)
class RequestedOutput:
    """An output tensor that a request names."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class OutputTensor:
    """An output tensor of a task.

    `row_shape` is the shape of one row; -1 is any size. `get_row` returns the row of an output, None if the
    output has none. `get_labels` returns the labels of an output, if the tensor holds labels or their scores.
    """

    name: str
    datatype: str
    row_shape: tuple[int, ...]
    content_type: str
    get_row: Callable[[Schema], Any]
    get_labels: Callable[[Schema], list[Label] | None] | None = None


@lru_cache
def output_tensors(output: type[Schema]) -> dict[str, OutputTensor]:
    """Return all output tensors of a task by name."""
    tensors = {OUTPUT: _json_tensor(OUTPUT, to_hub_json)}
    for name, field in output.model_fields.items():
        for tensor in _field_tensors(name, unwrap_optional(strip_annotated(field.annotation))):
            tensors.setdefault(tensor.name, tensor)
    return tensors


def metadata(output: type[Schema]) -> list[tuple[str, str, list[int]]]:
    """Return the name, datatype and shape of each output tensor; -1 is any size."""
    tensors = output_tensors(output).values()
    return [(tensor.name, tensor.datatype, [-1, *tensor.row_shape]) for tensor in tensors]


def check_requested(output: type[Schema], requested: Sequence[RequestedOutput]) -> None:
    """Raise `InvalidInput` if the task cannot return one of the requested outputs."""
    tensors, names = output_tensors(output), [request.name for request in requested]
    for request in requested:
        if request.name not in tensors:
            raise InvalidInput(f"there is no output {request.name!r}; the outputs are {', '.join(tensors)}")
        if names.count(request.name) > 1:
            raise InvalidInput(f"the output {request.name!r} is requested twice")
        class_count = _class_count(tensors[request.name], request)
        own = "str" if class_count else tensors[request.name].content_type
        if (content_type := request.parameters.get("content_type", own)) != own:
            raise InvalidInput(f"the content_type of {request.name!r} is {own!r}, not {content_type!r}")


def to_tensors(
    output: type[Schema], outputs: Sequence[Schema], requested: Sequence[RequestedOutput]
) -> list[Tensor]:
    """Return the requested tensors, or all that the outputs have if the request names none.

    Raises `InvalidInput` if an output has no requested value, or if its rows differ in length.
    """
    tensors = output_tensors(output)
    if requested:
        return [_to_tensor(tensors[request.name], outputs, request) for request in requested]
    available = []
    for tensor in tensors.values():
        with suppress(InvalidInput):
            available.append(_to_tensor(tensor, outputs, RequestedOutput(tensor.name, {})))
    return available


def _field_tensors(name: str, annotation: Any) -> list[OutputTensor]:
    origin, args = get_origin(annotation), get_args(annotation)
    get_field = attrgetter(name)
    if annotation == list[Label]:
        labels = OutputTensor(name, "BYTES", (-1,), "str", _label_getter(get_field, "label"), get_field)
        scores = OutputTensor("scores", "FP32", (-1,), "np", _label_getter(get_field, "score"), get_field)
        return [labels, scores]
    is_list = origin is list
    scalar = args[0] if is_list else type(args[0]) if origin is Literal else annotation
    if (datatype := DATATYPES.get(scalar)) is None:
        return [_json_tensor(name, lambda output: output.model_dump(mode="json", include={name})[name])]
    content_type = "str" if scalar is str else "np"
    return [OutputTensor(name, datatype, (-1,) if is_list else (), content_type, get_field)]


def _json_tensor(name: str, to_json: Callable[[Any], Any]) -> OutputTensor:
    return OutputTensor(name, "BYTES", (1,), "hg_jsonlist", lambda output: [orjson.dumps(to_json(output))])


def _label_getter(get_labels: Callable[[Any], Any], attribute: str) -> Callable[[Schema], list[Any] | None]:
    def get_row(output: Schema) -> list[Any] | None:
        labels = get_labels(output)
        return None if labels is None else [getattr(label, attribute) for label in labels]

    return get_row


def _to_tensor(tensor: OutputTensor, outputs: Sequence[Schema], request: RequestedOutput) -> Tensor:
    class_count = _class_count(tensor, request)
    get_row = tensor.get_row if class_count is None else partial(_best_classes, tensor, class_count)
    rows: list[Any] = [get_row(output) for output in outputs]
    if any(row is None for row in rows):
        raise InvalidInput(f"an output has no {tensor.name!r}; request {OUTPUT!r} instead")
    shape, values = _flatten(tensor, rows)
    if class_count is not None:
        return Tensor(tensor.name, "BYTES", shape, values, {"content_type": "str"})
    values = [value.encode() if isinstance(value, str) else value for value in values]
    return Tensor(tensor.name, tensor.datatype, shape, values, {"content_type": tensor.content_type})


def _flatten(tensor: OutputTensor, rows: list[Any]) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape and the flat values. Raises `InvalidInput` if the rows differ in length."""
    if not tensor.row_shape:
        return (len(rows),), rows
    widths = sorted({len(row) for row in rows})
    if len(widths) > 1:
        raise InvalidInput(
            f"the rows of {tensor.name!r} have {widths[0]} to {widths[-1]} values; request {OUTPUT!r} instead"
        )
    return (len(rows), *widths), [value for row in rows for value in row]


def _class_count(tensor: OutputTensor, request: RequestedOutput) -> int | None:
    """Return how many of the best classes replace the tensor, or None for the tensor itself."""
    count: int | None = request.parameters.get("classification")
    if count and tensor.get_labels is None:
        raise InvalidInput(f"the output {tensor.name!r} has no classes; leave out `classification`")
    return count


def _best_classes(tensor: OutputTensor, count: int, output: Schema) -> list[bytes] | None:
    """Return the best classes as "score:index:label"; the index is the label's position in the output."""
    assert tensor.get_labels is not None
    if (labels := tensor.get_labels(output)) is None:
        return None
    best = sorted(enumerate(labels), key=lambda indexed: -indexed[1].score)[:count]
    return [f"{label.score:f}:{index}:{label.label}".encode() for index, label in best]
