"""A conversation as OpenAI's callers write it, for chat completions and responses alike."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from deployments.schema import MAX_ITEMS
from deployments.wire.openai.generation import Writes
from deployments.wire.openai.requests import Asked, Line, Unsupported, one_or_several

CHAT = Writes("hold a conversation", "conversation", "generated_text")


class TextPart(Asked):
    """A part of a message; only texts are read."""

    type: Literal["text", "input_text", "output_text"]
    text: str


Content = Annotated[
    Annotated[str, Tag("one")]
    | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True), Tag("several")],
    Discriminator(one_or_several),
]


class ChatMessage(Asked):
    """One turn; "developer" is another word for "system". An assistant may have said nothing."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content | None = Field(None, validate_default=True)
    tool_calls: Unsupported = None
    function_call: Unsupported = None

    @field_validator("content")
    @classmethod
    def _require(cls, content: Any, info: ValidationInfo) -> Any:
        if content is None and info.data.get("role") != "assistant":
            raise PydanticKnownError("missing")
        return content

    def turn(self) -> dict[str, str]:
        """The turn as the tasks read it; parts become paragraphs."""
        told = self.content or ""
        parts = [told] if isinstance(told, str) else [part.text for part in told]
        return {"role": "system" if self.role == "developer" else self.role, "content": "\n".join(parts)}


Conversation = Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]
"""Turns, oldest first."""


class InputMessage(ChatMessage):
    """One turn among the items that responses take; items of other kinds are not read."""

    type: Literal["message"] | None = None


Input = Annotated[
    Annotated[Line, Tag("one")]
    | Annotated[
        list[InputMessage], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True), Tag("several")
    ],
    Discriminator(one_or_several),
]
"""One user's turn, or several turns, oldest first."""


class ResponseFormat(Asked):
    """The form of an answer: plain text."""

    type: Literal["text"]
