"""Types of the Responses API: the request, the response and its events."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deployments.schema import CONTENT_LIMITS, MAX_TEXT
from deployments.wire.openai.generation import SamplingRequest
from deployments.wire.openai.messages import ResponseFormat, ResponseInput
from deployments.wire.openai.requests import OpenAIObject, Unsupported
from deployments.wire.openai.settings import length_setting

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class TextConfig(OpenAIObject):
    """The format of the generated text: plain text."""

    format: ResponseFormat | None = None


class ResponsesRequest(SamplingRequest):
    """A text or a conversation, oldest message first, and sampling settings."""

    input: ResponseInput
    instructions: str | None = Field(
        None, description="A system message before the input.", json_schema_extra=CONTENT_LIMITS
    )
    max_output_tokens: int | None = length_setting()
    text: TextConfig | None = None
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="`auto` keeps the end of a conversation that is longer than the context."
    )
    include: list[Literal["reasoning.encrypted_content"]] | None = Field(
        None, description="There is no reasoning to include."
    )
    tool_choice: Literal["none", "auto"] | None = None
    tools: Unsupported = None
    previous_response_id: Unsupported = None
    conversation: Unsupported = None
    background: Unsupported = None
    prompt: Unsupported = None

    def settings(self) -> dict[str, tuple[str, Any]]:
        return super().settings() | {
            "max_new_tokens": ("max_output_tokens", self.max_output_tokens),
            "truncate": ("truncation", MAX_TEXT if self.truncation == "auto" else None),
        }

    def to_messages(self) -> list[dict[str, str]]:
        """Convert the instructions and the input to the tasks' conversation."""
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        if isinstance(self.input, str):
            return [*system, {"role": "user", "content": self.input}]
        return system + [message.to_message() for message in self.input]


class OutputText(BaseModel):
    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = []
    logprobs: list[Any] = []


class OutputMessage(BaseModel):
    type: Literal["message"] = "message"
    id: str
    status: Status
    role: Literal["assistant"] = "assistant"
    content: list[OutputText]


class InputTokensDetails(BaseModel):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(BaseModel):
    reasoning_tokens: int = 0


class ResponseUsage(BaseModel):
    """Numbers of tokens, by the model's tokenizer."""

    input_tokens: int
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens: int
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int


class ResponseFailure(BaseModel):
    code: Literal["server_error", "rate_limit_exceeded"]
    message: str


class IncompleteDetails(BaseModel):
    reason: Literal["max_output_tokens"] = "max_output_tokens"


class OpenAIResponse(BaseModel):
    """A response, complete or in progress."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    model: str
    output: list[OutputMessage] = []
    error: ResponseFailure | None = None
    incomplete_details: IncompleteDetails | None = None
    usage: ResponseUsage | None = None
    instructions: str | None
    max_output_tokens: int | None
    temperature: float | None
    top_p: float | None
    parallel_tool_calls: bool = False
    previous_response_id: None = None
    store: Literal[False] = False
    tool_choice: Literal["none", "auto"] = "auto"
    tools: list[Any] = []
    metadata: dict[str, str] = {}


class ResponseEvent(BaseModel):
    """An event of a response's stream; its `type` decides which further fields it has."""

    model_config = ConfigDict(extra="allow")

    type: str
    sequence_number: int
