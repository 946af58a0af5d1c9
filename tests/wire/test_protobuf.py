"""Schemas become messages, and all values survive serialization and parsing."""

from contextlib import suppress
from typing import Annotated, Any, Literal

import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, create_model

from deployments.errors import Internal
from deployments.reference.protos import documents
from deployments.schema import Label, Messages, Schema, Text, Texts
from deployments.wire.annotations import strip_annotated, unwrap_optional
from deployments.wire.protobuf import Number, add_service, message_class, parse_fields, serialize

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)
FLOAT = st.floats(allow_nan=False)


class Inner(Schema):
    name: str
    values: list[float]


class Everything(Schema):
    text: str
    data: bytes
    number: int
    share: float
    sure: bool
    word: Literal["left", "right"]
    inner: Inner
    texts: list[str]
    numbers: list[int]
    inners: list[Inner]
    names: dict[str, str]
    counts: dict[str, int]
    facts: dict[str, Any]
    anything: Any
    lists: list[list[float]]
    either: str | list[str]


class Defaults(Schema):
    required: int
    share: float = 0.5
    name: str | None = None
    flag: bool = True
    many: list[int] = []
    inner: Inner | None = None


INNER = st.builds(Inner, name=st.text(), values=st.lists(FLOAT, max_size=3))
EVERYTHING = st.builds(
    Everything,
    number=INT64,
    share=FLOAT,
    inner=INNER,
    inners=st.lists(INNER, max_size=2),
    numbers=st.lists(INT64, max_size=3),
    counts=st.dictionaries(st.text(), INT64, max_size=2),
    facts=st.dictionaries(st.text(), JSON, max_size=2),
    anything=JSON,
    lists=st.lists(st.lists(FLOAT.filter(lambda x: abs(x) < float("inf")), max_size=2), max_size=2),
)
DEFAULTS = st.builds(
    Defaults,
    required=INT64,
    share=FLOAT,
    name=st.none() | st.text(),
    flag=st.booleans(),
    many=st.lists(INT64, max_size=2),
    inner=st.none() | INNER,
)
QUICK = settings(max_examples=40, deadline=None)


def build_message(schema: type[BaseModel], *, presence: bool = False) -> Any:
    return message_class(schema, "test", DescriptorPool(), presence=presence)


EVERYTHING_MESSAGE = build_message(Everything)
DEFAULTS_MESSAGE = build_message(Defaults, presence=True)


@given(EVERYTHING)
@QUICK
def test_value_round_trips(value: Everything) -> None:
    fields = parse_fields(EVERYTHING_MESSAGE, serialize(EVERYTHING_MESSAGE, value))
    assert Everything.model_validate({"anything": None, **fields}) == value


@given(DEFAULTS)
@QUICK
def test_presence_distinguishes_zero_from_missing(value: Defaults) -> None:
    assert (
        Defaults.model_validate(parse_fields(DEFAULTS_MESSAGE, serialize(DEFAULTS_MESSAGE, value))) == value
    )


def test_missing_field_gets_the_default_of_the_schema() -> None:
    raw = DEFAULTS_MESSAGE(required=1).SerializeToString()
    assert Defaults.model_validate(parse_fields(DEFAULTS_MESSAGE, raw)) == Defaults(required=1)


@given(st.binary(max_size=40))
@QUICK
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    with suppress(Internal):
        assert isinstance(parse_fields(EVERYTHING_MESSAGE, raw), dict)


def test_invalid_message_raises_the_error_of_grpc() -> None:
    with pytest.raises(Internal, match=r"^Exception deserializing request!$"):
        parse_fields(EVERYTHING_MESSAGE, b"\xff")


def test_field_numbers_follow_the_order_unless_set() -> None:
    numbered = create_model("Numbered", a=(str, ...), b=(Annotated[str, Number(7)], ...), c=(str, ...))
    assert {field.name: field.number for field in build_message(numbered).DESCRIPTOR.fields} == {
        "a": 1,
        "b": 7,
        "c": 2,
    }


def test_proto_text_of_messages_and_service() -> None:
    pool = DescriptorPool()
    request, response = (
        message_class(Defaults, "a.b", pool, presence=True),
        message_class(Everything, "c", pool),
    )
    add_service("a.b.Service", {"Call": (request, response)}, pool)
    texts = documents(["a.b.Service"], pool)
    assert texts["a.b.proto"].splitlines()[1:] == [
        'syntax = "proto3";',
        "",
        "package a.b;",
        "",
        'import "c.proto";',
        "",
        "service Service {",
        "  rpc Call(a.b.Defaults) returns (c.Everything);",
        "}",
        "",
        "message Defaults {",
        "  int64 required = 1;",
        "  optional double share = 2;",
        "  optional string name = 3;",
        "  optional bool flag = 4;",
        "  repeated int64 many = 5;",
        "  a.b.Inner inner = 6;",
        "}",
        "",
        "message Inner {",
        "  string name = 1;",
        "  repeated double values = 2;",
        "}",
    ]
    for line in (
        'import "google/protobuf/struct.proto";',
        "  bytes data = 2;",
        "  map<string, string> names = 11;",
        "  map<string, int64> counts = 12;",
        "  google.protobuf.Struct facts = 13;",
        "  google.protobuf.Value anything = 14;",
        "  google.protobuf.Value lists = 15;",
    ):
        assert line in texts["c.proto"].splitlines()


def test_message_class_is_built_once() -> None:
    pool = DescriptorPool()
    assert message_class(Label, "test", pool) is message_class(Label, "test", pool)


def test_second_message_of_the_same_name_raises() -> None:
    pool = DescriptorPool()
    message_class(Label, "test", pool)
    with pytest.raises(TypeError):
        message_class(create_model("Label", other=(str, ...)), "test", pool)


def test_service_in_the_pool_stays_unchanged() -> None:
    pool = DescriptorPool()
    label = message_class(Label, "test", pool)
    for methods in ({"One": (label, label)}, {"Two": (label, label)}):
        add_service("test.Service", methods, pool)
    assert [method.name for method in pool.FindServiceByName("test.Service").methods] == ["One"]


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (Text, str),
        (Texts, list[str]),
        (Text | None, str | None),
        (dict[str, Text], dict[str, str]),
        (Literal["a"], Literal["a"]),
    ],
)
def test_strip_annotated(annotation: Any, expected: Any) -> None:
    assert strip_annotated(annotation) == expected


def test_conversation_is_a_repeated_message() -> None:
    assert (
        build_message(create_model("Talk", messages=(Messages, ...)))
        .DESCRIPTOR.fields_by_name["messages"]
        .is_repeated
    )


def test_unwrap_optional() -> None:
    assert (unwrap_optional(float | None), unwrap_optional(str | int | None)) == (float, str | int)
