"""Chat completions: generate the next message of a conversation, as one response or as a stream."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from deployments.errors import InvalidInput
from deployments.wire.openai.choice_writer import MAX_TOP_LOGPROBS, MIN_LOGPROB, respond_with_choices
from deployments.wire.openai.generation import (
    ChoicesRequest,
    CompletionUsage,
    FinishReason,
    choice_generator,
    finish_reason,
    text_of,
)
from deployments.wire.openai.messages import CHAT, Conversation, ResponseFormat
from deployments.wire.openai.requests import Unsupported, model_id_of, parse_body
from deployments.wire.openai.settings import length_setting

if TYPE_CHECKING:
    from deployments.routing.router import Router


class ChatCompletionRequest(ChoicesRequest):
    """A conversation, oldest message first, and sampling settings."""

    messages: Conversation
    max_completion_tokens: int | None = length_setting()
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    response_format: ResponseFormat | None = None
    tool_choice: Literal["none", "auto"] | None = None
    tools: Unsupported = None
    functions: Unsupported = None
    audio: Unsupported = None
    modalities: list[Literal["text"]] | None = None

    def settings(self) -> dict[str, tuple[str, Any]]:
        length = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        return super().settings() | {
            "max_new_tokens": (length, getattr(self, length)),
            "top_n_tokens": ("top_logprobs", self.top_logprobs or None),
        }


class TopLogprob(BaseModel):
    """A likely token at a position."""

    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(TopLogprob):
    """A generated token, and the likeliest tokens at its position, best first."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    content: list[ChatTokenLogprob]
    refusal: None = None


class AssistantMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """All choices."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: CompletionUsage
    system_fingerprint: str | None


class Delta(TypedDict, total=False):
    """What a chunk adds to a choice: the role in the first chunk, then text, nothing in the last."""

    role: Literal["assistant"]
    content: str


class ChatChunkChoice(BaseModel):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(BaseModel):
    """A part of one choice, or the usage of all."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: CompletionUsage | None = None
    system_fingerprint: str | None


async def complete_chat(router: "Router", request: Request) -> Response:
    """Generate the next message of a conversation, `n` times."""
    body = await parse_body(request, ChatCompletionRequest)
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidInput("`top_logprobs` requires `logprobs`: set it to true", field="top_logprobs")
    model_id = model_id_of(request, body)
    messages = [message.to_message() for message in body.messages]
    generator = await choice_generator(router, model_id, CHAT, [messages], body, "messages")
    return await respond_with_choices(request, generator, body, ChatWriter(body))


class ChatWriter:
    """Writes the choices of a chat completion."""

    id_prefix = "chatcmpl"
    response_type: type[BaseModel] = ChatCompletion
    chunk_type: type[BaseModel] = ChatCompletionChunk

    def __init__(self, body: ChatCompletionRequest) -> None:
        self._body = body
        self._started: set[int] = set()  # indices of the choices whose role has been sent

    def to_choice(self, index: int, output: Any) -> ChatChoice:
        details = output.details
        return ChatChoice(
            index=index,
            message=AssistantMessage(content=output.generated_text),
            logprobs=self._requested_logprobs(details.tokens, details.top_tokens),
            finish_reason=finish_reason(details),
        )

    def to_chunk_choices(self, index: int, chunk: Any) -> list[ChatChunkChoice]:
        text = text_of(chunk.token)
        logprobs = self._requested_logprobs([chunk.token], chunk.top_tokens and [chunk.top_tokens])
        choices = []
        if index not in self._started:
            self._started.add(index)
            choices.append(ChatChunkChoice(index=index, delta={"role": "assistant", "content": ""}))
        if text or (logprobs and logprobs.content):
            choices.append(ChatChunkChoice(index=index, delta={"content": text}, logprobs=logprobs))
        if chunk.details:
            choices.append(ChatChunkChoice(index=index, delta={}, finish_reason=finish_reason(chunk.details)))
        return choices

    def _requested_logprobs(self, tokens: Sequence[Any], top_tokens: Any) -> ChatLogprobs | None:
        return _chat_logprobs(tokens, top_tokens) if self._body.logprobs else None


def _chat_logprobs(tokens: Sequence[Any], top_tokens: Sequence[Sequence[Any]] | None) -> ChatLogprobs:
    """Convert the logprobs of all tokens except special ones; `top_tokens` has the likeliest per token."""
    return ChatLogprobs(
        content=[
            ChatTokenLogprob(
                **_token_logprob(token), top_logprobs=[TopLogprob(**_token_logprob(top)) for top in likeliest]
            )
            for token, likeliest in zip(tokens, top_tokens or [()] * len(tokens), strict=True)
            if not token.special
        ]
    )


def _token_logprob(token: Any) -> dict[str, Any]:
    return {
        "token": token.text,
        "logprob": max(token.logprob, MIN_LOGPROB),
        "bytes": list(token.text.encode()),
    }
