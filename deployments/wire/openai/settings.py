"""Fields of requests that are parameters of the tasks: OpenAPI shows the limits that the tasks enforce."""

from functools import partial
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from deployments.schema import MAX_ITEMS
from deployments.task import TASKS
from deployments.wire.openai.requests import single_or_list

REPORTS_TOKENS = "details"
"""A parameter of every task that OpenAI's routes can generate text with."""
LIMITS = {
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "items"),
}


def setting(name: str, description: str | None = None) -> Any:
    """Return a field with the limits of the tasks' parameter `name`."""
    return Field(None, description=description, json_schema_extra=partial(_add_limits, name))


def length_setting() -> Any:
    """Return a field for the number of tokens to generate."""
    return setting("max_new_tokens")


def _limits(name: str) -> dict[str, Any]:
    """Return the limits of a parameter, in JSON Schema, of the first task that generates text."""
    params = [task.params for task in TASKS.values() if {REPORTS_TOKENS, name} <= {*task.params.model_fields}]
    field = params[0].model_json_schema()["properties"][name] if params else {}
    described = next((choice for choice in field.get("anyOf", ()) if choice.get("type") != "null"), field)
    return {key: value for key, value in described.items() if key in LIMITS}


def _add_limits(name: str, schema: dict[str, Any]) -> None:
    schema.update(_limits(name))


def _add_item_limits(name: str, schema: dict[str, Any]) -> None:
    schema.update(_limits(name).get("items", {}))


Stop = Annotated[
    Annotated[str, Field(json_schema_extra=partial(_add_item_limits, "stop")), Tag("single")]
    | Annotated[
        list[str], Field(max_length=MAX_ITEMS, json_schema_extra=partial(_add_limits, "stop")), Tag("list")
    ],
    Discriminator(single_or_list),
]
