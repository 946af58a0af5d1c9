"""Write a task's inputs and outputs as JSON, in the form that the Hub uses.

The form follows from the task's own fields, so that every task has one. Several protocols share it.
"""

from functools import lru_cache
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin

from deployments.errors import InvalidInput
from deployments.schema import Schema, Vector, field_types
from deployments.task import Task


class InputLayout(NamedTuple):
    """How JSON holds a task's input.

    A value that is not an object fills `single_field`, the only required field; `single_type` is that field's
    schema type. A raw body fills `image_field`.
    """

    fields: frozenset[str]
    single_field: str | None
    single_type: str | None
    image_field: str | None

    def to_fields(self, value: Any) -> Any:
        """Return one item as an object. Raises `InvalidInput` if the task needs several fields."""
        if isinstance(value, dict) and not self.fields.isdisjoint(value):
            return value
        if self.single_field is None:
            fields = ", ".join(sorted(self.fields))
            raise InvalidInput(f"`inputs` must be an object with the fields {fields}", field="inputs")
        return {self.single_field: value}

    def is_batch(self, inputs: Any) -> bool:
        """Return whether `inputs` is a list of items, and not the value of one field that is a list."""
        if not isinstance(inputs, list):
            return False
        if self.single_type not in ("texts", "conversation", "array") or not inputs:
            return True
        first = inputs[0]
        if isinstance(first, dict):
            return not self.fields.isdisjoint(first)
        return isinstance(first, list) or (isinstance(first, str) and self.single_type == "conversation")


@lru_cache
def input_layout(input_: type[Schema]) -> InputLayout:
    """Return the layout of an Input's JSON."""
    types = field_types(input_)
    required = [name for name, field in input_.model_fields.items() if field.is_required()] or list(types)
    single_field = required[0] if len(required) == 1 else None
    image_fields = [name for name, schema_type in types.items() if schema_type == "image"]
    return InputLayout(
        fields=frozenset(types),
        single_field=single_field,
        single_type=types[single_field] if single_field else None,
        image_field=image_fields[0] if len(image_fields) == 1 else None,
    )


def to_hub_json(output: Schema) -> Any:
    """Return an output as the Hub's JSON: its first value if that is a list, or else the whole object."""
    name, value = next(((name, value) for name, value in output if value is not None), ("", None))
    if not isinstance(value, list):
        fields = output.model_dump(mode="json")
        return {name: value for name, value in fields.items() if value is not None}
    if value and isinstance(value[0], Vector):
        return [vector.values for vector in value]
    if not value or not isinstance(value[0], Schema):  # thousands of numbers, which need no conversion
        return value
    # Clients read an absent number as none, and refuse null.
    return output.model_dump(mode="json", include={name}, exclude_none=True)[name]


def hub_json_types(output: type[Schema]) -> list[Any]:
    """Return the types that `to_hub_json` can make of an output."""
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


def example_request(task: Task) -> dict[str, Any]:
    """Return the JSON body of a valid request."""
    fields = task.examples()[0]
    is_single = len(fields) == 1 and input_layout(task.input).single_field in fields
    return {"inputs": next(iter(fields.values())) if is_single else fields}
