"""Fields of requests with the limits of the tasks' parameters of generation, which the tasks enforce."""

from typing import Annotated, Any

from pydantic import BaseModel, Discriminator, Field, Tag

from deployments.generation.params import GenerationParams
from deployments.schema import MAX_ITEMS
from deployments.wire.openai.requests import single_or_list

LIMIT_KEYS = {
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "items"),
}


def _limits_of(schema: type[BaseModel], name: str) -> dict[str, Any]:
    """Return the limits of a field in JSON Schema: of its number, its text, or its list and the items."""
    field = schema.model_json_schema()["properties"][name]
    described = next((choice for choice in field.get("anyOf", ()) if choice.get("type") != "null"), field)
    return {key: value for key, value in described.items() if key in LIMIT_KEYS}


STOP = _limits_of(GenerationParams, "stop")
Stop = Annotated[
    Annotated[str, Field(json_schema_extra=STOP["items"]), Tag("single")]
    | Annotated[list[str], Field(max_length=MAX_ITEMS, json_schema_extra=STOP), Tag("list")],
    Discriminator(single_or_list),
]


def setting(name: str, description: str | None = None) -> Any:
    """Return a field with the limits of the parameter `name`."""
    return Field(None, description=description, json_schema_extra=_limits_of(GenerationParams, name))


def length_setting() -> Any:
    """Return a field for the number of tokens to generate."""
    return setting("max_new_tokens")
