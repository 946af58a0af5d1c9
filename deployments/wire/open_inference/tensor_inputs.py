"""A task's inputs and parameters, read from named tensors: row n of each is item n.

| a field that holds | is a tensor                                                                |
|--------------------|----------------------------------------------------------------------------|
| text, picture, ... | [N] or [N, 1]                                                              |
| a list             | [N, K]; [K], the lone item's; or JSON, [N] or [N, 1]: a list each          |
| a conversation     | [N] or [N, 1]: a user's one turn each; or JSON: a list of messages each    |

The lone field that is required may have any name. A tensor with a parameter's name is that parameter.
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
from deployments.wire.open_inference.tensors import Tensor
from deployments.wire.task_json import form

meanings = lru_cache(field_types)

LISTS = ("texts", "array")
NUMBERS = {"boolean": "BOOL", "integer": "INT64", "number": "FP64"}

PLAIN = (None, "str", "raw", "np", "nplist")
BASE64 = ("base64", "pillow_image")
JSON = ("hg_json", "hg_jsonlist")
REQUEST_PLAIN = (None, "str", "hf")

RESERVED = ("content_type", "headers", "priority", "timeout", "binary_data_output")
RESERVED_PREFIXES = ("sequence_", "triton_")


def read_items(
    task: Task, tensors: Sequence[Tensor], parameters: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The items and the parameters that a request's tensors and `parameters` hold, for `Router.read`.

    Raises `InvalidInput` that names the tensor, `TooLarge` for over a thousand items.
    """
    if parameters.get("content_type") not in REQUEST_PLAIN:
        raise InvalidInput(f"the content_type {parameters['content_type']!r} of a request is not understood")
    named = _named(task, tensors)
    fields, columns = meanings(task.input), dict[str, list[Any]]()
    params = {name: _listed_param(task, name, value) for name, value in _own(parameters).items()}
    for name, tensor in named.items():
        if name in fields:
            columns[name] = _rows(fields[name], tensor)
        else:
            params[name] = _param(meanings(task.params)[name], tensor)
    return _items(columns), params


def metadata(input_: type[Schema]) -> list[tuple[str, str, list[int]]]:
    """Name, datatype and shape of each tensor that can be sent; -1 is any size."""
    return [
        (name, NUMBERS.get(word, "BYTES"), [-1, -1] if word in LISTS else [-1])
        for name, word in meanings(input_).items()
    ]


def example(task: Task) -> list[Tensor]:
    """The tensors of the task's first example."""
    return [_example(name, value) for name, value in task.examples()[0].items()]


def _example(name: str, value: Any) -> Tensor:
    if isinstance(value, str):
        return Tensor(name, "BYTES", (1,), [value.encode()])
    return Tensor(name, "BYTES", (1,), [orjson.dumps(value)], {"content_type": "hg_jsonlist"})


def _named(task: Task, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """The tensors by the field or parameter that each is."""
    known = {*task.input.model_fields, *task.params.model_fields}
    lone = form(task.input).lone
    named: dict[str, Tensor] = {}
    given = {tensor.name for tensor in tensors}
    for tensor in tensors:
        name = tensor.name
        if name not in known:
            if lone is None or lone in given or lone in named:
                raise InvalidInput(f"{task.name} has no input {name!r}; it has {', '.join(sorted(known))}")
            name = lone
        if name in named:
            raise InvalidInput(f"the input {name!r} is given twice")
        named[name] = tensor
    return named


def _own(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The request's parameters but for the protocol's own."""
    return {
        name: value
        for name, value in parameters.items()
        if value is not None and name not in RESERVED and not name.startswith(RESERVED_PREFIXES)
    }


def _items(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    counts = {name: len(rows) for name, rows in columns.items()}
    if not any(counts.values()):
        raise InvalidInput("there are no inputs")
    if len({*counts.values()}) > 1:
        told = ", ".join(f"{name!r} {count:,}" for name, count in counts.items())
        raise InvalidInput(f"the inputs hold different numbers of items: {told}")
    if (items := max(counts.values())) > MAX_ITEMS:
        raise TooLarge(f"the request has {items:,} items; at most {MAX_ITEMS:,} are accepted")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _rows(word: str, tensor: Tensor) -> list[Any]:
    """One value per item."""
    if word not in (*LISTS, "conversation"):
        return _column(tensor, _cells(word, tensor))
    cells = _cells("text", tensor)
    if (listed := _listed(tensor, cells)) is not None:
        return _column(tensor, listed)
    if word == "conversation":
        return _column(tensor, cells)
    if len(tensor.shape) > 2:
        raise InvalidInput(
            f"{tensor.name!r} has shape {list(tensor.shape)}; it is [N, K], or [K] of one item"
        )
    width = tensor.shape[-1]
    return [cells[place : place + width] for place in range(0, len(cells), width)] if width else []


def _column(tensor: Tensor, cells: list[Any]) -> list[Any]:
    if any(size != 1 for size in tensor.shape[1:]):
        raise InvalidInput(f"{tensor.name!r} has shape {list(tensor.shape)}; it is [N] or [N, 1]")
    return cells


def _param(word: str, tensor: Tensor) -> Any:
    cells = _cells("text", tensor)
    listed = _listed(tensor, cells) if word == "array" else None
    if word == "array" and listed is None:
        return cells
    values = cells if listed is None else listed
    if not values or any(value != values[0] for value in values):
        raise InvalidInput(f"the parameter {tensor.name!r} has one value, the same for every item")
    return values[0]


def _listed_param(task: Task, name: str, value: Any) -> Any:
    """A list is JSON where a protocol's parameters have no lists; a lone string is a list of one."""
    if meanings(task.params).get(name) != "array" or not isinstance(value, str):
        return value
    listed = _list(value)
    return [value] if listed is None else listed


def _cells(word: str, tensor: Tensor) -> list[Any]:
    """Each element as JSON would hold it, or a picture's bytes."""
    content_type = tensor.parameters.get("content_type")
    if content_type not in (*PLAIN, *BASE64, *JSON):
        raise InvalidInput(f"the content_type {content_type!r} of {tensor.name!r} is not understood")
    if tensor.datatype != "BYTES":
        return tensor.values
    if content_type in JSON:
        check_json(*tensor.values)
    return [_cell(word, tensor.name, content_type, value) for value in tensor.values]


def _cell(word: str, name: str, content_type: str | None, value: bytes) -> Any:
    if content_type in JSON:
        return _json(name, value)
    if word == "image" and content_type not in BASE64 and not _is_text(value):
        return value
    if word != "image" and content_type in BASE64:
        value = _unpacked(name, value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"an element of {name!r} is no UTF-8 text") from None


def _is_text(value: bytes) -> bool:
    """Whether it can be base64 or a URL: in every format that is read, a picture has a zero byte."""
    return value.isascii() and b"\0" not in value


def _unpacked(name: str, value: bytes) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise InvalidInput(f"an element of {name!r} is no base64") from None


def _json(name: str, value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise InvalidInput(f"an element of {name!r} is no JSON, as its content_type says") from None


def _listed(tensor: Tensor, cells: list[Any]) -> list[Any] | None:
    """The elements where each is a list of its own: by its content type, or as it looks."""
    if tensor.parameters.get("content_type") in JSON:
        return cells
    if tensor.datatype == "BYTES":
        check_json(*tensor.values)
    lists = [_list(cell) if isinstance(cell, str) else None for cell in cells]
    return None if not lists or any(one is None for one in lists) else lists


def _list(text: str) -> list[Any] | None:
    """The JSON list of texts or messages that a text is, if it is one: "[1] A footnote." is none."""
    if not text.lstrip().startswith("["):
        return None
    check_json(text.encode())
    try:
        told = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return told if all(isinstance(one, str | dict) for one in told) else None
