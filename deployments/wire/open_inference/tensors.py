"""Encode and decode tensors: JSON, little-endian bytes, or numbers of a message.

The decoders check data against its shape and datatype, and sizes before they allocate memory.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deployments.errors import InvalidInput, TooLarge

FORMATS = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
    "BF16": "H",
}
"""The `struct` format of one number; a BF16 is the upper half of an FP32."""

DATATYPES = ("BYTES", *FORMATS)
MAX_ELEMENTS = 1_000_000
MAX_RANK = 8
LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Tensor:
    """A named tensor; `values` are flat, in row-major order: bytes for BYTES, else bool, int or float."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def count(name: str, datatype: str, shape: Sequence[int]) -> int:
    """Return how many elements a shape has. Raises `InvalidInput`, or `TooLarge` over a million."""
    if datatype not in DATATYPES:
        raise InvalidInput(
            f"{name!r} has the unknown datatype {datatype!r}; use one of {', '.join(DATATYPES)}"
        )
    if not 1 <= len(shape) <= MAX_RANK or any(size < 0 for size in shape):
        raise InvalidInput(f"the shape of {name!r} must have 1 to {MAX_RANK} sizes, none of them negative")
    if max(shape) > MAX_ELEMENTS or math.prod(shape) > MAX_ELEMENTS:
        raise TooLarge(f"{name!r} has too many elements; at most {MAX_ELEMENTS:,} are accepted")
    return math.prod(shape)


def from_bytes(name: str, datatype: str, shape: Sequence[int], raw: memoryview) -> list[Any]:
    """Decode elements from bytes: packed numbers, or BYTES with a 4-byte length before each element."""
    elements = count(name, datatype, shape)
    if datatype == "BYTES":
        return _split_bytes(name, elements, raw)
    numbers = struct.Struct(f"<{elements}{FORMATS[datatype]}")
    if len(raw) != numbers.size:
        raise InvalidInput(
            f"{name!r} has {len(raw):,} bytes; {list(shape)} of {datatype} needs {numbers.size:,}"
        )
    if datatype == "BF16":
        raw = memoryview(b"".join(b"\0\0" + raw[start : start + 2] for start in range(0, len(raw), 2)))
        numbers = struct.Struct(f"<{elements}f")
    return list(numbers.unpack(raw))


def from_json(name: str, datatype: str, shape: Sequence[int], data: Any) -> list[Any]:
    """Decode elements from JSON: a list, flat or nested like the shape."""
    elements = count(name, datatype, shape)
    flat = _flatten(name, data, list(shape))
    if len(flat) != elements:
        raise InvalidInput(f"{name!r} has {len(flat):,} elements; its shape {list(shape)} needs {elements:,}")
    return _check_values(name, datatype, flat)


def to_bytes(tensor: Tensor) -> bytes:
    """Encode elements as bytes; BF16 is not supported. Raises `InvalidInput` if a number does not fit."""
    if tensor.datatype == "BYTES":
        return b"".join(LENGTH.pack(len(value)) + value for value in tensor.values)
    try:
        return struct.pack(f"<{len(tensor.values)}{FORMATS[tensor.datatype]}", *tensor.values)
    except (OverflowError, struct.error):
        raise InvalidInput(f"a number of {tensor.name!r} does not fit {tensor.datatype}") from None


def to_json(tensor: Tensor) -> list[Any]:
    """Encode elements as a flat JSON list; BYTES become texts."""
    if tensor.datatype == "BYTES":
        return [value.decode(errors="replace") for value in tensor.values]
    return tensor.values


def _split_bytes(name: str, elements: int, raw: memoryview) -> list[bytes]:
    values, position = [], 0
    for _ in range(elements):
        if position + LENGTH.size > len(raw):
            raise InvalidInput(f"{name!r} ends before its last element")
        start = position + LENGTH.size
        position = start + LENGTH.unpack_from(raw, position)[0]
        if position > len(raw):
            raise InvalidInput(f"{name!r} has an element that is longer than the data")
        values.append(bytes(raw[start:position]))
    if position != len(raw):
        raise InvalidInput(f"{name!r} has {len(raw) - position:,} bytes after its last element")
    return values


def _flatten(name: str, data: Any, shape: list[int]) -> list[Any]:
    if not isinstance(data, list):
        raise InvalidInput(f"the data of {name!r} must be a list, flat or nested like its shape")
    if len(shape) == 1 or not data or not isinstance(data[0], list):
        return data
    if len(data) != shape[0]:
        raise InvalidInput(f"the data of {name!r} is not nested like its shape")
    rows = [_flatten(name, row, shape[1:]) for row in data]
    if any(len(row) != math.prod(shape[1:]) for row in rows):
        raise InvalidInput(f"the data of {name!r} is not nested like its shape")
    return [value for row in rows for value in row]


def _check_values(name: str, datatype: str, values: list[Any]) -> list[Any]:
    if datatype == "BYTES":
        return [_to_bytes(name, value) for value in values]
    if datatype == "BOOL":
        fits = all(type(value) is bool for value in values)
    elif "INT" in datatype:
        fits = all(type(value) is int for value in values) and _in_range(datatype, values)
    else:
        fits = all(type(value) in (int, float) for value in values)
        values = [float(value) for value in values] if fits else values
    if not fits:
        raise InvalidInput(f"an element of {name!r} is not a valid {datatype}")
    return values


def _to_bytes(name: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise InvalidInput(f"an element of {name!r} is not a string; in JSON, BYTES are strings")
    return value.encode()


def _in_range(datatype: str, values: list[int]) -> bool:
    bits = 8 * struct.calcsize(FORMATS[datatype])
    least, most = (0, 2**bits - 1) if datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return all(least <= value <= most for value in values)
