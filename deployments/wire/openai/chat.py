"""Chat completions: a conversation in, what is said next out, whole or in chunks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from deployments.errors import InvalidInput
from deployments.wire.openai.choice_writer import LEAST_LOGPROB, MAX_TOP_LOGPROBS, write_choices
from deployments.wire.openai.generation import (
    Choosing,
    CompletionUsage,
    FinishReason,
    choices,
    finish_reason,
    visible,
)
from deployments.wire.openai.messages import CHAT, Conversation, ResponseFormat
from deployments.wire.openai.requests import Unsupported, model_of, read

if TYPE_CHECKING:
    from deployments.routing.router import Router


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
        problem = "`top_logprobs` is for those who ask for `logprobs` as well"
        raise InvalidInput(problem, field="top_logprobs")
    model_id = model_of(request, asked)
    turns = [message.turn() for message in asked.messages]
    answers = await choices(router, model_id, CHAT, [turns], asked, "messages")
    return await write_choices(request, answers, asked, ChatWriter(asked))


class ChatWriter:
    """Writes the answers to a conversation."""

    prefix = "chatcmpl"
    whole: type[BaseModel] = ChatCompletion
    chunk: type[BaseModel] = ChatCompletionChunk

    def __init__(self, asked: ChatCompletionRequest) -> None:
        self._asked = asked
        self._begun: set[int] = set()

    def choice(self, place: int, output: Any) -> ChatChoice:
        details = output.details
        return ChatChoice(
            index=place,
            message=AssistantMessage(content=output.generated_text),
            logprobs=self._logprobs(details.tokens, details.top_tokens),
            finish_reason=finish_reason(details),
        )

    def pieces(self, place: int, chunk: Any) -> list[ChatChunkChoice]:
        text = visible(chunk.token)
        logprobs = self._logprobs([chunk.token], chunk.top_tokens and [chunk.top_tokens])
        pieces = []
        if place not in self._begun:
            self._begun.add(place)
            pieces.append(ChatChunkChoice(index=place, delta={"role": "assistant", "content": ""}))
        if text or (logprobs and logprobs.content):
            pieces.append(ChatChunkChoice(index=place, delta={"content": text}, logprobs=logprobs))
        if chunk.details:
            pieces.append(ChatChunkChoice(index=place, delta={}, finish_reason=finish_reason(chunk.details)))
        return pieces

    def _logprobs(self, tokens: Sequence[Any], top_tokens: Any) -> ChatLogprobs | None:
        return _logprobs(tokens, top_tokens) if self._asked.logprobs else None


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
