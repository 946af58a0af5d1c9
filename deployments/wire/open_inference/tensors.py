"""Tensors as wires hold them: as JSON, as little-endian bytes, or as numbers of a message.

Whatever comes in is checked against its shape and its datatype, and sizes before any memory is taken.
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
"""How `struct` writes one number; a BF16 is the upper half of an FP32."""

DATATYPES = ("BYTES", *FORMATS)
MAX_ELEMENTS = 1_000_000
MAX_RANK = 8
LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Tensor:
    """A named tensor; `values` are flat, row by row: bytes for BYTES, else bool, int or float."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def count(name: str, datatype: str, shape: Sequence[int]) -> int:
    """How many elements a tensor of this shape has. Raises `InvalidInput`, or `TooLarge` over a million."""
    if datatype not in DATATYPES:
        raise InvalidInput(f"the datatype {datatype!r} of {name!r} is none of {', '.join(DATATYPES)}")
    if not 1 <= len(shape) <= MAX_RANK or any(size < 0 for size in shape):
        raise InvalidInput(f"the shape of {name!r} is 1 to {MAX_RANK} numbers, none of them negative")
    if 0 not in shape and (max(shape) > MAX_ELEMENTS or math.prod(shape) > MAX_ELEMENTS):
        raise TooLarge(f"{name!r} has too many elements; at most {MAX_ELEMENTS:,} are accepted")
    return math.prod(shape)


def from_bytes(name: str, datatype: str, shape: Sequence[int], raw: memoryview) -> list[Any]:
    """The elements that `raw` holds: numbers side by side, or BYTES with the length of each before it."""
    elements = count(name, datatype, shape)
    if datatype == "BYTES":
        return _split(name, elements, raw)
    numbers = struct.Struct(f"<{elements}{FORMATS[datatype]}")
    if len(raw) != numbers.size:
        raise InvalidInput(
            f"{name!r} has {len(raw):,} bytes; {list(shape)} of {datatype} has {numbers.size:,}"
        )
    if datatype == "BF16":
        raw = memoryview(b"".join(b"\0\0" + raw[place : place + 2] for place in range(0, len(raw), 2)))
        numbers = struct.Struct(f"<{elements}f")
    return list(numbers.unpack(raw))


def from_json(name: str, datatype: str, shape: Sequence[int], data: Any) -> list[Any]:
    """The elements of `data`: a list, flat or nested as the shape is."""
    elements = count(name, datatype, shape)
    flat = _flat(name, data, list(shape))
    if len(flat) != elements:
        raise InvalidInput(f"{name!r} has {len(flat):,} elements; its shape {list(shape)} has {elements:,}")
    return _checked(name, datatype, flat)


def to_bytes(tensor: Tensor) -> bytes:
    """The elements as `from_bytes` reads them; not for BF16. Raises `InvalidInput` where one does not fit."""
    if tensor.datatype == "BYTES":
        return b"".join(LENGTH.pack(len(value)) + value for value in tensor.values)
    try:
        return struct.pack(f"<{len(tensor.values)}{FORMATS[tensor.datatype]}", *tensor.values)
    except (OverflowError, struct.error):
        raise InvalidInput(f"a number of {tensor.name!r} does not fit {tensor.datatype}") from None


def to_json(tensor: Tensor) -> list[Any]:
    """The elements as JSON holds them, flat; BYTES are texts there."""
    if tensor.datatype == "BYTES":
        return [value.decode(errors="replace") for value in tensor.values]
    return tensor.values


def _split(name: str, elements: int, raw: memoryview) -> list[bytes]:
    values, place = [], 0
    for _ in range(elements):
        if place + LENGTH.size > len(raw):
            raise InvalidInput(f"{name!r} ends before its last element")
        start = place + LENGTH.size
        place = start + LENGTH.unpack_from(raw, place)[0]
        if place > len(raw):
            raise InvalidInput(f"{name!r} has an element that is longer than what was sent")
        values.append(bytes(raw[start:place]))
    if place != len(raw):
        raise InvalidInput(f"{name!r} has {len(raw) - place:,} bytes after its last element")
    return values


def _flat(name: str, data: Any, shape: list[int]) -> list[Any]:
    if not isinstance(data, list):
        raise InvalidInput(f"the data of {name!r} is a list, flat or nested as its shape is")
    if len(shape) == 1 or not data or not isinstance(data[0], list):
        return data
    if len(data) != shape[0]:
        raise InvalidInput(f"the data of {name!r} is nested in another way than its shape")
    rows = [_flat(name, row, shape[1:]) for row in data]
    if any(len(row) != math.prod(shape[1:]) for row in rows):
        raise InvalidInput(f"the data of {name!r} is nested in another way than its shape")
    return [value for row in rows for value in row]


def _checked(name: str, datatype: str, values: list[Any]) -> list[Any]:
    if datatype == "BYTES":
        return [_bytes(name, value) for value in values]
    if datatype == "BOOL":
        fits = all(type(value) is bool for value in values)
    elif "INT" in datatype:
        fits = all(type(value) is int for value in values) and _within(datatype, values)
    else:
        fits = all(type(value) in (int, float) for value in values)
        values = [float(value) for value in values] if fits else values
    if not fits:
        raise InvalidInput(f"an element of {name!r} is no {datatype}")
    return values


def _bytes(name: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise InvalidInput(f"an element of {name!r} is no string, as BYTES are in JSON")
    return value.encode()


def _within(datatype: str, values: list[int]) -> bool:
    bits = 8 * struct.calcsize(FORMATS[datatype])
    least, most = (0, 2**bits - 1) if datatype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return all(least <= value <= most for value in values)
