"""Fields of requests that Roster does not read: which have no effect on the answer, and which are refused.

OpenAI, vLLM and other servers of this protocol have many more fields than a request has here. A field that
would change the answer is refused with its name, unless its value is the one that changes nothing.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from deployments.errors import InvalidInput

IGNORED_FIELDS = frozenset(
    {
        "metadata",  # labels for the provider's dashboard
        "parallel_tool_calls",  # without tools
        "priority",
        "prompt_cache_key",
        "prompt_cache_retention",
        "request_id",
        "reasoning",  # no model here has a setting for it
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "store",  # nothing is stored; a Responses object says so
        "stream_options",
        "user",
    }
)
"""Accepted with any value: they do not change the answer."""

IGNORED_IN_OBJECTS = frozenset(
    {
        *("annotations", "id", "logprobs", "refusal", "status"),  # of an earlier answer
        "cache_control",
        "include_obfuscation",
        "name",  # of a participant: a task's conversation has roles only
    }
)
"""Accepted in messages and other objects of a request."""

NEUTRAL_VALUES: Mapping[str, Any] = {
    "add_generation_prompt": True,
    "length_penalty": 1,
    "modalities": ["text"],
    "n": 1,
    "response_format": {"type": "text"},
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "tool_choice": "none",
    "typical_p": 1,
}
"""The value of a field that changes nothing, where that is not null, false, 0 or empty."""


def check_other_fields(value: Any, path: str = "") -> None:
    """Raise `InvalidInput` for a field of a request, or of an object in it, that would change the answer."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            check_other_fields(item, f"{path}[{index}]")
    elif isinstance(value, BaseModel):
        ignored = IGNORED_IN_OBJECTS if path else IGNORED_FIELDS
        for name, other in (value.model_extra or {}).items():
            if name not in ignored and other is not None and not _is_neutral(name, other):
                field = f"{path}.{name}".removeprefix(".")
                raise InvalidInput(f"`{field}` is not supported; leave it out", field=field)
        for name in value.model_fields_set & type(value).model_fields.keys():
            check_other_fields(getattr(value, name), f"{path}.{name}".removeprefix("."))


def _is_neutral(name: str, value: Any) -> bool:
    return bool(value == NEUTRAL_VALUES[name]) if name in NEUTRAL_VALUES else not value
