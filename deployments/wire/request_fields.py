"""Fields of requests that Roster does not read: which have no effect on the answer, and which are refused.

Servers of the same protocols have many more fields than a request has here. A field that would change the
answer is refused with its name, unless its value is the one that changes nothing. Each protocol lists the
fields that its clients send and that change no answer.
"""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from deployments.errors import InvalidInput

EMPTY_VALUES: tuple[Any, ...] = (None, False, 0, "", [], {})
"""Values that change nothing, of a field that is not in `neutral_values`."""


class RequestObject(BaseModel):
    """A JSON object that a client sends, or an object in it.

    `check_fields` decides about the fields that it does not have. A field in `ignored_fields` may have any
    value: it does not change the answer. A field in `neutral_values` must have that value, any other an empty
    one.
    """

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    ignored_fields: ClassVar[Collection[str]] = frozenset()
    neutral_values: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the other fields too."""
        schema = handler(core_schema)
        described = handler.resolve_ref_schema(schema)
        if described.get("additionalProperties") is True:
            ignored = {name: {"description": "Has no effect."} for name in sorted(cls.ignored_fields)}
            neutral = {name: {"enum": [None, value]} for name, value in sorted(cls.neutral_values.items())}
            described["properties"] = {**neutral, **ignored, **described.get("properties", {})}
            described["additionalProperties"] = {"enum": [*EMPTY_VALUES]}
        return schema


def check_fields(value: Any, path: str = "") -> None:
    """Raise `InvalidInput` for a field of a request, or of an object in it, that would change the answer."""
    if isinstance(value, list):
        # A list of numbers may have a million: a set of their types is fast.
        if any(issubclass(type_, BaseModel) for type_ in {*map(type, value)}):
            for index, item in enumerate(value):
                check_fields(item, f"{path}[{index}]")
    elif isinstance(value, BaseModel):
        if isinstance(value, RequestObject):
            _check_other_fields(value, path)
        for name in value.model_fields_set & type(value).model_fields.keys():
            check_fields(getattr(value, name), f"{path}.{name}".removeprefix("."))


def task_params(
    params: Mapping[str, Any],
    known: Collection[str],
    ignored: Collection[str] = (),
    neutral_values: Mapping[str, Any] = {},
) -> dict[str, Any]:
    """Return the parameters that a task must validate: all but null ones and those that change nothing.

    The task has the parameters `known`, and refuses others.
    """
    return {
        name: value
        for name, value in params.items()
        if value is not None
        and (name in known or (name not in ignored and neutral_values.get(name) != value))
    }


def _check_other_fields(value: RequestObject, path: str) -> None:
    for name, other in (value.model_extra or {}).items():
        neutral = value.neutral_values.get(name) == other if name in value.neutral_values else not other
        if name not in value.ignored_fields and other is not None and not neutral:
            field = f"{path}.{name}".removeprefix(".")
            raise InvalidInput(f"`{field}` is not supported; leave it out", field=field)
