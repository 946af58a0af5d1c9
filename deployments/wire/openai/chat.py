"""Chat completions: a conversation in, what is said next out, whole or in chunks."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from deployments.errors import InvalidInput
from deployments.wire.openai.errors import event_of
from deployments.wire.openai.generation import (
    DONE,
    Choices,
    Choosing,
    CompletionUsage,
    FinishReason,
    choices,
    finish_reason,
    head,
    visible,
)
from deployments.wire.openai.messages import CHAT, Conversation, ResponseFormat
from deployments.wire.openai.requests import Unsupported, model_of, read, respond_with
from deployments.wire.sse import event_stream

if TYPE_CHECKING:
    from deployments.routing.router import Router

MAX_TOP_LOGPROBS = 20
LEAST_LOGPROB = -9999.0  # JSON has no infinity


class ChatCompletionRequest(Choosing):
    """A conversation, oldest turn first, and how to go on with it."""

    messages: Conversation
    max_completion_tokens: int | None = None
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
    """A token that might have stood there."""

    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(TopLogprob):
    """A token, and the likeliest ones at its place, best first."""

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
    """All answers."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: CompletionUsage
    system_fingerprint: str | None


class Delta(TypedDict, total=False):
    """What a chunk adds: the role in an answer's first one, a text in the others, nothing in its last."""

    role: Literal["assistant"]
    content: str


class ChatChunkChoice(BaseModel):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(BaseModel):
    """A piece of one answer, or the usage of all."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: CompletionUsage | None = None
    system_fingerprint: str | None


async def complete_chat(router: "Router", request: Request) -> Response:
    """Say what comes next, `n` times."""
    asked = await read(request, ChatCompletionRequest)
    if asked.top_logprobs is not None and not asked.logprobs:
        raise InvalidInput("`top_logprobs` is for those who ask for `logprobs` as well")
    model_id = model_of(request, asked)
    turns = [message.turn() for message in asked.messages]
    answers = await choices(router, model_id, CHAT, [turns], asked, "messages")
    told = head(router, model_id, "chatcmpl")
    if asked.stream:
        return await event_stream(request, _chunks(answers, asked, told), chunk_json, event_of, DONE)
    outputs = await answers.whole()
    return respond_with(
        ChatCompletion(
            **told,
            choices=[_choice(place, output, asked) for place, output in enumerate(outputs)],
            usage=answers.usage([output.details for output in outputs]),
        )
    )


def chunk_json(chunk: BaseModel) -> bytes:
    return chunk.model_dump_json().encode()


def _choice(place: int, output: Any, asked: ChatCompletionRequest) -> ChatChoice:
    details = output.details
    return ChatChoice(
        index=place,
        message=AssistantMessage(content=output.generated_text),
        logprobs=_logprobs(details.tokens, details.top_tokens) if asked.logprobs else None,
        finish_reason=finish_reason(details),
    )


async def _chunks(
    answers: Choices, asked: ChatCompletionRequest, told: dict[str, Any]
) -> AsyncGenerator[ChatCompletionChunk, None]:
    details: dict[int, Any] = {}
    begun: set[int] = set()
    async with aclosing(answers.stream()) as chunks:
        async for place, chunk in chunks:
            for choice in _pieces(place, chunk, asked, place not in begun):
                yield ChatCompletionChunk(**told, choices=[choice])
            begun.add(place)
            if chunk.details:
                details[place] = chunk.details
    if asked.tells_usage:
        usage = answers.usage([details[place] for place in sorted(details)])
        yield ChatCompletionChunk(**told, choices=[], usage=usage)


def _pieces(place: int, chunk: Any, asked: ChatCompletionRequest, first: bool) -> list[ChatChunkChoice]:
    """What a stream says of one chunk of the answer at `place`."""
    text = visible(chunk.token)
    logprobs = _logprobs([chunk.token], chunk.top_tokens and [chunk.top_tokens]) if asked.logprobs else None
    pieces = []
    if first:
        pieces.append(ChatChunkChoice(index=place, delta={"role": "assistant", "content": ""}))
    if text or (logprobs and logprobs.content):
        pieces.append(ChatChunkChoice(index=place, delta={"content": text}, logprobs=logprobs))
    if chunk.details:
        pieces.append(ChatChunkChoice(index=place, delta={}, finish_reason=finish_reason(chunk.details)))
    return pieces


def _logprobs(tokens: Sequence[Any], top_tokens: Sequence[Sequence[Any]] | None) -> ChatLogprobs:
    """Of the tokens that are text."""
    rows = top_tokens or [()] * len(tokens)
    return ChatLogprobs(
        content=[
            ChatTokenLogprob(**_logprob(token), top_logprobs=[TopLogprob(**_logprob(one)) for one in row])
            for token, row in zip(tokens, rows, strict=True)
            if not token.special
        ]
    )


def _logprob(token: Any) -> dict[str, Any]:
    bytes_ = list(token.text.encode())
    return {"token": token.text, "logprob": max(token.logprob, LEAST_LOGPROB), "bytes": bytes_}
