"""Fields of requests that Roster does not read: which have no effect on the answer, and which are refused.

OpenAI, vLLM and other servers of this protocol have many more fields than a request has here. A field that
would change the answer is refused with its name, unless its value is the one that changes nothing.
"""

from collections.abc import Mapping
from typing import Any

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


def check_other_fields(fields: Mapping[str, Any]) -> None:
    """Raise `InvalidInput` for the first field that would change the answer."""
    for name, value in fields.items():
        if name not in IGNORED_FIELDS and value is not None and not _is_neutral(name, value):
            raise InvalidInput(f"`{name}` is not supported; leave it out", field=name)


def _is_neutral(name: str, value: Any) -> bool:
    return bool(value == NEUTRAL_VALUES[name]) if name in NEUTRAL_VALUES else not value
