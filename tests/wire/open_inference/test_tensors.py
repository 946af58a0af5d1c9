"""Tensors in binary and in JSON: equality with Triton's own codecs, and validation of all input."""

import time
from contextlib import suppress
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.utils import (
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_byte_tensor,
    triton_to_np_dtype,
)

from deployments.errors import InvalidInput, TooLarge
from deployments.wire.open_inference.tensors import (
    DATATYPES,
    FORMATS,
    MAX_ELEMENTS,
    Tensor,
    from_bytes,
    from_json,
    to_bytes,
    to_json,
)

QUICK = settings(max_examples=40, deadline=None)
ENCODABLE = [datatype for datatype in FORMATS if datatype != "BF16"]


def numbers(datatype: str) -> st.SearchStrategy[list[Any]]:
    """Return a strategy for numbers that the datatype holds exactly."""
    dtype = np.dtype(triton_to_np_dtype(datatype))
    if dtype.kind == "b":
        return st.lists(st.booleans(), min_size=1, max_size=8)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return st.lists(st.integers(int(limits.min), int(limits.max)), min_size=1, max_size=8)
    floats = st.floats(width=8 * dtype.itemsize, allow_nan=False, allow_infinity=False)
    return st.lists(floats, min_size=1, max_size=8)


@pytest.mark.parametrize("datatype", ENCODABLE)
@given(st.data())
@QUICK
def test_numbers_round_trip_and_equal_numpy(datatype: str, data: st.DataObject) -> None:
    values = data.draw(numbers(datatype))
    array = np.array(values, dtype=triton_to_np_dtype(datatype))
    assert np_to_triton_dtype(array.dtype) == datatype
    raw = to_bytes(Tensor("x", datatype, (len(values),), values))
    assert raw == array.tobytes()
    assert from_bytes("x", datatype, [len(values)], memoryview(raw)) == values


@pytest.mark.parametrize("datatype", ENCODABLE)
@given(st.data())
@QUICK
def test_numbers_round_trip_as_json(datatype: str, data: st.DataObject) -> None:
    values = data.draw(numbers(datatype))
    tensor = Tensor("x", datatype, (len(values),), values)
    assert from_json("x", datatype, tensor.shape, to_json(tensor)) == values
    assert from_json("x", datatype, [len(values), 1], [[value] for value in values]) == values


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
@QUICK
def test_bf16_is_decoded(values: list[float]) -> None:
    halves = np.array(values, dtype=np.float32).astype(ml_dtypes.bfloat16)
    decoded = from_bytes("x", "BF16", [len(values)], memoryview(halves.tobytes()))
    assert decoded == halves.astype(np.float32).tolist()


@given(st.lists(st.binary(max_size=12), max_size=6))
@QUICK
def test_bytes_round_trip_and_equal_triton(values: list[bytes]) -> None:
    raw = to_bytes(Tensor("x", "BYTES", (len(values),), values))
    if values:
        assert raw == serialize_byte_tensor(np.array(values, dtype=object)).item()
    assert deserialize_bytes_tensor(raw).tolist() == values
    assert from_bytes("x", "BYTES", [len(values)], memoryview(raw)) == values


@given(st.lists(st.text(max_size=6), max_size=6))
@QUICK
def test_texts_round_trip_as_json(texts: list[str]) -> None:
    decoded = from_json("x", "BYTES", [len(texts)], texts)
    assert to_json(Tensor("x", "BYTES", (len(texts),), decoded)) == texts


@given(st.sampled_from(DATATYPES), st.lists(st.integers(-2, 5), max_size=4), st.binary(max_size=64))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_decoded_or_refused(datatype: str, shape: list[int], raw: bytes) -> None:
    with suppress(InvalidInput):
        assert len(from_bytes("x", datatype, shape, memoryview(raw))) == np.prod(shape)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(DATATYPES), st.lists(st.integers(-1, 4), max_size=3), ANYTHING)
@settings(max_examples=300, deadline=None)
def test_any_json_is_decoded_or_refused(datatype: str, shape: list[int], data: Any) -> None:
    with suppress(InvalidInput):
        decoded = from_json("x", datatype, shape, data)
        assert len(decoded) == np.prod(shape)
        assert not any(isinstance(value, list) for value in decoded)


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("INT8", [1], [128]),
        ("INT8", [1], [-129]),
        ("UINT8", [1], [-1]),
        ("UINT64", [1], [2**64]),
        ("INT64", [1], [True]),
        ("INT64", [1], [1.0]),
        ("BOOL", [1], [1]),
        ("FP32", [1], ["1"]),
        ("FP32", [1], [None]),
        ("BYTES", [1], [1]),
        ("BYTES", [1], "a"),
        ("BYTES", [2], ["a"]),
        ("BYTES", [2, 2], [["a", "b", "c"], ["d"]]),
        ("BYTES", [2, 2], [["a", "b"], "c", "d"]),
        ("BYTES", [2, 2], [["a", "b"], ["c", "d"], ["e", "f"]]),
        ("BYTES", [], ["a"]),
        ("BYTES", [1] * 9, ["a"]),
        ("BYTES", [-1], ["a"]),
        ("TEXT", [1], ["a"]),
    ],
)
def test_json_that_does_not_match_datatype_or_shape_is_refused(
    datatype: str, shape: list[int], data: Any
) -> None:
    with pytest.raises(InvalidInput):
        from_json("x", datatype, shape, data)


@pytest.mark.parametrize(
    ("datatype", "shape", "raw"),
    [
        ("FP32", [2], b"\0" * 7),
        ("FP32", [2], b"\0" * 9),
        ("FP32", [1], b""),
        ("BYTES", [1], b"\1\0\0"),
        ("BYTES", [1], b"\2\0\0\0a"),
        ("BYTES", [1], b"\xff\xff\xff\xffa"),
        ("BYTES", [1], b"\1\0\0\0ab"),
        ("BYTES", [2], b"\1\0\0\0a"),
        ("BYTES", [0], b"\0"),
    ],
)
def test_bytes_that_do_not_match_datatype_or_shape_are_refused(
    datatype: str, shape: list[int], raw: bytes
) -> None:
    with pytest.raises(InvalidInput):
        from_bytes("x", datatype, shape, memoryview(raw))


@pytest.mark.parametrize("shape", [[2**62], [10**5, 10**5], [2**40, 2**40, 2**40], [MAX_ELEMENTS + 1]])
@pytest.mark.parametrize("datatype", ["BYTES", "FP64", "BOOL", "BF16"])
def test_huge_shapes_are_refused_quickly(datatype: str, shape: list[int]) -> None:
    start = time.process_time()
    with pytest.raises(TooLarge):
        from_bytes("x", datatype, shape, memoryview(b""))
    with pytest.raises(TooLarge):
        from_json("x", datatype, shape, [])
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize(("datatype", "value"), [("FP32", 1e300), ("INT64", 2**63)])
def test_number_outside_the_range_of_its_datatype_is_an_error(datatype: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"does not fit {datatype}"):
        to_bytes(Tensor("x", datatype, (1,), [value]))
