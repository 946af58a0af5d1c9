"""Parse a task's inputs and parameters from named tensors: row n of each is item n.

| a field of type | is a tensor                                                                       |
|-----------------|-----------------------------------------------------------------------------------|
| text, image ... | [N] or [N, 1]                                                                     |
| list            | [N, K]; [K] for one item; or JSON, [N] or [N, 1]: a list per element              |
| conversation    | [N] or [N, 1]: one user's message per element; or JSON: a list of messages        |

The tensor of the only required field may have any name. A tensor with a parameter's name is that parameter.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from deployments.errors import InvalidInput, TooLarge
from deployments.schema import MAX_ITEMS, Schema, field_types
from deployments.task import Task
from deployments.wire.http import check_json
from deployments.wire.open_inference.parameters import BASE64, JSON, PLAIN, REQUEST_PLAIN, infer_params
from deployments.wire.open_inference.tensors import Tensor
from deployments.wire.task_json import input_layout

schema_types = lru_cache(field_types)

LISTS = ("texts", "array")
NUMBERS = {"boolean": "BOOL", "integer": "INT64", "number": "FP64"}


def parse_items(
    task: Task, tensors: Sequence[Tensor], parameters: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the items and the task's parameters, not yet validated, from tensors and `parameters`.

    Raises `InvalidInput` that names the tensor, `TooLarge` for over a thousand items.
    """
    if parameters.get("content_type") not in REQUEST_PLAIN:
        raise InvalidInput(f"the request's content_type {parameters['content_type']!r} is not supported")
    fields, values = schema_types(task.input), dict[str, list[Any]]()
    params = {
        name: _parse_list_param(task, name, value) for name, value in infer_params(task, parameters).items()
    }
    for name, tensor in _tensors_by_name(task, tensors).items():
        if name in fields:
            values[name] = _item_values(fields[name], tensor)
        else:
            params[name] = _param_value(schema_types(task.params)[name], tensor)
    return _to_items(values), params


def metadata(input_: type[Schema]) -> list[tuple[str, str, list[int]]]:
    """Return the name, datatype and shape of each input tensor; -1 is any size."""
    return [
        (name, NUMBERS.get(schema_type, "BYTES"), [-1, -1] if schema_type in LISTS else [-1])
        for name, schema_type in schema_types(input_).items()
    ]


def example_tensors(task: Task) -> list[Tensor]:
    """Return the tensors of the task's first example."""
    return [_example_tensor(name, value) for name, value in task.examples()[0].items()]


def _example_tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, str):
        return Tensor(name, "BYTES", (1,), [value.encode()])
    return Tensor(name, "BYTES", (1,), [orjson.dumps(value)], {"content_type": "hg_jsonlist"})


def _tensors_by_name(task: Task, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the tensors by the name of their field or parameter."""
    known = {*task.input.model_fields, *task.params.model_fields}
    single_field = input_layout(task.input).single_field
    by_name: dict[str, Tensor] = {}
    sent = {tensor.name for tensor in tensors}
    for tensor in tensors:
        name = tensor.name
        if name not in known:
            if single_field is None or single_field in sent or single_field in by_name:
                raise InvalidInput(f"{task.name} has no input {name!r}; it has {', '.join(sorted(known))}")
            name = single_field
        if name in by_name:
            raise InvalidInput(f"the input {name!r} is given twice")
        by_name[name] = tensor
    return by_name


def _to_items(values: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return one object per item, from the values of each field."""
    counts = {name: len(field_values) for name, field_values in values.items()}
    if not any(counts.values()):
        raise InvalidInput("the request has no inputs")
    if len({*counts.values()}) > 1:
        sizes = ", ".join(f"{name!r} {count:,}" for name, count in counts.items())
        raise InvalidInput(f"the inputs hold different numbers of items: {sizes}")
    if (items := max(counts.values())) > MAX_ITEMS:
        raise TooLarge(f"the request has {items:,} items; at most {MAX_ITEMS:,} are accepted")
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _item_values(schema_type: str, tensor: Tensor) -> list[Any]:
    """Return a field's value for each item."""
    if schema_type not in (*LISTS, "conversation"):
        return _check_single_column(tensor, _elements(schema_type, tensor))
    elements = _elements("text", tensor)
    if (lists := _parse_lists(tensor, elements)) is not None:
        return _check_single_column(tensor, lists)
    if schema_type == "conversation":
        return _check_single_column(tensor, elements)
    if len(tensor.shape) > 2:
        raise InvalidInput(
            f"{tensor.name!r} has the shape {list(tensor.shape)}, not [N, K], or [K] for one item"
        )
    width = tensor.shape[-1]
    return [elements[start : start + width] for start in range(0, len(elements), width)] if width else []


def _check_single_column(tensor: Tensor, elements: list[Any]) -> list[Any]:
    if any(size != 1 for size in tensor.shape[1:]):
        raise InvalidInput(f"{tensor.name!r} has the shape {list(tensor.shape)}, not [N] or [N, 1]")
    return elements


def _param_value(schema_type: str, tensor: Tensor) -> Any:
    elements = _elements("text", tensor)
    lists = _parse_lists(tensor, elements) if schema_type == "array" else None
    if schema_type == "array" and lists is None:
        return elements
    values = elements if lists is None else lists
    if not values or any(value != values[0] for value in values):
        raise InvalidInput(f"the parameter {tensor.name!r} must have one value, the same for every item")
    return values[0]


def _parse_list_param(task: Task, name: str, value: Any) -> Any:
    """Parse a parameter that is a list: gRPC's parameters have no lists, so clients send JSON or one text."""
    if schema_types(task.params).get(name) != "array" or not isinstance(value, str):
        return value
    items = _parse_list(value)
    return [value] if items is None else items


def _elements(schema_type: str, tensor: Tensor) -> list[Any]:
    """Return each element as a JSON value, or as the bytes of an image."""
    content_type = tensor.parameters.get("content_type")
    if content_type not in (*PLAIN, *BASE64, *JSON):
        raise InvalidInput(f"the content_type {content_type!r} of {tensor.name!r} is not supported")
    if tensor.datatype != "BYTES":
        return tensor.values
    if content_type in JSON:
        check_json(*tensor.values)
    return [_element(schema_type, tensor.name, content_type, value) for value in tensor.values]


def _element(schema_type: str, name: str, content_type: str | None, value: bytes) -> Any:
    if content_type in JSON:
        return _parse_json(name, value)
    if schema_type == "image" and content_type not in BASE64 and not _is_text(value):
        return value
    if schema_type != "image" and content_type in BASE64:
        value = _decode_base64(name, value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"an element of {name!r} is not valid UTF-8") from None


def _is_text(value: bytes) -> bool:
    """Return whether the value can be base64 or a URL: every supported image format has zero bytes."""
    return value.isascii() and b"\0" not in value


def _decode_base64(name: str, value: bytes) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise InvalidInput(f"an element of {name!r} is not valid base64") from None


def _parse_json(name: str, value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise InvalidInput(
            f"an element of {name!r} is not valid JSON, which its content_type requires"
        ) from None


def _parse_lists(tensor: Tensor, elements: list[Any]) -> list[Any] | None:
    """Return one list per element, or None unless the content type or every element is a JSON list."""
    if tensor.parameters.get("content_type") in JSON:
        return elements
    if tensor.datatype == "BYTES":
        check_json(*tensor.values)
    lists = [_parse_list(element) if isinstance(element, str) else None for element in elements]
    return None if not lists or None in lists else lists


def _parse_list(text: str) -> list[Any] | None:
    """Parse a JSON list of texts or messages; return None for any other text, as "[1] A footnote."."""
    if not text.lstrip().startswith("["):
        return None
    check_json(text.encode())
    try:
        items = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return items if all(isinstance(item, str | dict) for item in items) else None
