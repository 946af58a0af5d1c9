"""Write a task's inputs and outputs as JSON, in the form that the Hub uses.

The form is read off the task's own fields, so that every task has one. Several protocols share it.
"""

from functools import lru_cache
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin

from deployments.errors import InvalidInput
from deployments.schema import Schema, Vector, field_types
from deployments.task import Task


class Form(NamedTuple):
    """How a task's Input is written.

    `lone` is the field that a bare value fills: the only required one; `word` is what it means. `picture` is
    the field that a raw body fills.
    """

    fields: frozenset[str]
    lone: str | None
    word: str | None
    picture: str | None

    def item(self, value: Any) -> Any:
        """One item's fields."""
        if isinstance(value, dict) and not self.fields.isdisjoint(value):
            return value
        if self.lone is None:
            fields = ", ".join(sorted(self.fields))
            raise InvalidInput(f"`inputs` is an object with the fields {fields}", field="inputs")
        return {self.lone: value}

    def is_batch(self, inputs: Any) -> bool:
        """Whether a list holds a value per item, and is not itself the value of a field that holds lists."""
        if not isinstance(inputs, list):
            return False
        if self.word not in ("texts", "conversation", "array") or not inputs:
            return True
        first = inputs[0]
        if isinstance(first, dict):
            return not self.fields.isdisjoint(first)
        return isinstance(first, list) or (isinstance(first, str) and self.word == "conversation")


@lru_cache
def form(input_: type[Schema]) -> Form:
    """Read off an Input's fields how it is written."""
    meanings = field_types(input_)
    required = [name for name, field in input_.model_fields.items() if field.is_required()] or list(meanings)
    lone = required[0] if len(required) == 1 else None
    pictures = [name for name, word in meanings.items() if word == "image"]
    picture = pictures[0] if len(pictures) == 1 else None
    return Form(frozenset(meanings), lone, meanings[lone] if lone else None, picture)


def said(output: Schema) -> Any:
    """An output as the Hub says it: the list that comes first in it, or else the whole object."""
    name, value = next(((name, value) for name, value in output if value is not None), ("", None))
    if not isinstance(value, list):
        return {name: told for name, told in output.model_dump(mode="json").items() if told is not None}
    if value and isinstance(value[0], Vector):
        return [vector.values for vector in value]
    if not value or not isinstance(value[0], Schema):  # numbers, of which there may be thousands
        return value
    return output.model_dump(mode="json", include={name})[name]


def said_types(output: type[Schema]) -> list[Any]:
    """What `said` may make of an output, field by field."""
    types: list[Any] = []
    for field in output.model_fields.values():
        optional = NoneType in get_args(field.annotation)
        type_ = (
            next(t for t in get_args(field.annotation) if t is not NoneType) if optional else field.annotation
        )
        if get_origin(type_) is not list:
            return [*types, output]
        types.append(list[list[float]] if type_ == list[Vector] else type_)
        if not optional:
            return types
    return types


def example(task: Task) -> dict[str, Any]:
    """The JSON body of a request that the task can answer."""
    fields = task.examples()[0]
    bare = len(fields) == 1 and form(task.input).lone in fields
    return {"inputs": next(iter(fields.values())) if bare else fields}
