"""The messages of a conversation in OpenAI's format, for chat completions and responses."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from deployments.schema import CONTENT_LIMITS, MAX_ITEMS
from deployments.wire.openai.generation import TextGenerationCapability
from deployments.wire.openai.requests import NonEmptyText, OpenAIObject, Unsupported, single_or_list

CHAT = TextGenerationCapability(
    "hold a conversation", input_type="conversation", output_field="generated_text"
)


class TextPart(OpenAIObject):
    """A part of a message; only text is supported."""

    type: Literal["text", "input_text", "output_text"]
    text: Annotated[str, Field(json_schema_extra=CONTENT_LIMITS)]


MessageContent = Annotated[
    Annotated[str, Field(json_schema_extra=CONTENT_LIMITS), Tag("single")]
    | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True), Tag("list")],
    Discriminator(single_or_list),
]


class ChatMessage(OpenAIObject):
    """A message; "developer" means "system". Only an assistant's message may have no content."""

    role: Literal["system", "developer", "user", "assistant"]
    content: MessageContent | None = Field(None, validate_default=True)
    tool_calls: Unsupported = None
    function_call: Unsupported = None

    @field_validator("content")
    @classmethod
    def _require_content(cls, content: Any, info: ValidationInfo) -> Any:
        if content is None and info.data.get("role") != "assistant":
            raise PydanticKnownError("missing")
        return content

    def to_message(self) -> dict[str, str]:
        """Convert to the tasks' format; each part becomes a line."""
        content = self.content or ""
        parts = [content] if isinstance(content, str) else [part.text for part in content]
        return {"role": "system" if self.role == "developer" else self.role, "content": "\n".join(parts)}


Conversation = Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]
"""Messages, oldest first."""


class InputMessage(ChatMessage):
    """A message among the input items of a response; items of other types are not supported."""

    type: Literal["message"] | None = None


ResponseInput = Annotated[
    Annotated[NonEmptyText, Tag("single")]
    | Annotated[list[InputMessage], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True), Tag("list")],
    Discriminator(single_or_list),
]
"""The text of a user's message, or messages, oldest first."""


class ResponseFormat(OpenAIObject):
    """The format of the generated text: plain text."""

    type: Literal["text"]
