"""Validation names the field that is wrong: of an input or of the parameters, in the caller's words."""

from typing import Annotated, Any

import pytest
from pydantic import Field

from deployments.errors import InvalidInput
from deployments.schema import Messages, Schema, Text
from deployments.task import Task
from tests.fake_router import FakeRouter


class Input(Schema):
    messages: Messages
    note: Text | None = None


class Params(Schema):
    top_k: int = Field(1, ge=1)
    stop: list[Annotated[str, Field(min_length=1)]] = []


TASK = Task("talk", "Talk.", Input, Params, Schema, None, "talk")
GOOD: dict[str, Any] = {"messages": "Hi"}
NAMES = {"messages": "input", "top_k": "best_of"}


async def refusal(input_: Any, names: dict[str, str] | None = None, **params: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        await FakeRouter().validator.validate(TASK, "any", [input_], params, names or {})
    return refused.value


@pytest.mark.parametrize(
    ("input_", "params", "field"),
    [
        ({"messages": [{"role": "user", "content": 7}]}, {}, "messages.0.content"),
        ({"messages": [{"role": "user"}, {"role": "unknown", "content": "a"}]}, {}, "messages.0.content"),
        ({}, {}, "messages"),
        ({**GOOD, "unknown": 1}, {}, "unknown"),
        ("Hi", {}, None),
        (GOOD, {"top_k": 0}, "top_k"),
        (GOOD, {"stop": ["a", ""]}, "stop.1"),
        (GOOD, {"stop": "a"}, "stop"),
        (GOOD, {"unknown": 1}, "unknown"),
        ({**GOOD, "note": ""}, {}, None),  # a type's own sentence, which does not know the field
    ],
    ids=str,
)
async def test_validation_error_names_the_field(
    input_: Any, params: dict[str, Any], field: str | None
) -> None:
    error = await refusal(input_, **params)
    assert error.field == field
    assert str(error).startswith(f"`{field}`: " if field else str(error))


async def test_error_field_is_the_first_wrong_field() -> None:
    error = await refusal(GOOD, stop=[""], top_k=0, unknown=1)
    assert error.field == "top_k"
    assert [part.split(":")[0] for part in str(error).split("; ")] == ["`top_k`", "`stop.0`", "`unknown`"]


async def test_error_uses_the_clients_field_names() -> None:
    error = await refusal({"messages": [{"role": "user", "content": 7}]}, NAMES)
    assert error.field == "input.0.content"
    assert str(error) == "`input.0.content`: Input should be a valid string"
    error = await refusal(GOOD, NAMES, top_k=0, stop=[""])
    assert error.field == "best_of"
    assert [part.split(":")[0] for part in str(error).split("; ")] == ["`best_of`", "`stop.0`"]


async def test_one_invalid_input_does_not_affect_others() -> None:
    items, _ = await FakeRouter().validator.validate_each(TASK, "any", [GOOD, {"messages": 7}], {}, NAMES)
    assert isinstance(items[0], Input)
    assert isinstance(items[1], InvalidInput)
    assert items[1].field == "input"
