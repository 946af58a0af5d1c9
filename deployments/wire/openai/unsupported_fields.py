"""Fields of OpenAI's requests that Roster does not read and that are not always refused.

OpenAI, vLLM and other servers of this protocol have many more fields than a request has here.
"""

from collections.abc import Mapping
from typing import Any

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
