"""Completions: prompts in, how they may go on out, whole or in chunks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import InvalidInput
from deployments.wire.openai.choice_writer import LEAST_LOGPROB, MAX_TOP_LOGPROBS, write_choices
from deployments.wire.openai.generation import (
    Choosing,
    CompletionUsage,
    FinishReason,
    Writes,
    choices,
    finish_reason,
    visible,
)
from deployments.wire.openai.requests import (
    TextsOrTokens,
    Unsupported,
    model_of,
    read,
    texts_of,
)

if TYPE_CHECKING:
    from deployments.routing.router import Router

COMPLETION = Writes("go on with a text", "text", "generated_text")


class CompletionRequest(Choosing):
    """One or several prompts: texts, or token ids of the model's own."""

    prompt: TextsOrTokens
    echo: bool | None = Field(None, description="Tell the prompt before its answer.")
    best_of: int | None = Field(None, description="As many as `n`: every answer is told.")
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS, description="Of how many tokens a place.")
    suffix: Unsupported = None

    def settings(self) -> dict[str, tuple[str, Any]]:
        return super().settings() | {
            "max_new_tokens": ("max_tokens", self.max_tokens),
            "top_n_tokens": ("logprobs", self.logprobs or None),
        }


class CompletionLogprobs(BaseModel):
    """Of each token: its text, its logprob, the likeliest texts at its place with theirs, and where it
    begins in the choice's text, in characters."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None


class Completion(BaseModel):
    """All answers; in a stream a piece of one, or their usage."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage | None = None
    system_fingerprint: str | None


async def complete(router: "Router", request: Request) -> Response:
    """Go on with each prompt, `n` times; the answers to the first prompt come first."""
    asked = await read(request, CompletionRequest)
    if asked.best_of not in (None, asked.count):
        raise InvalidInput("`best_of` is the same as `n`, or absent: every answer is told", field="best_of")
    if asked.echo and asked.logprobs is not None:
        problem = "`logprobs` are those of an answer; leave out `echo`, whose tokens have none"
        raise InvalidInput(problem, field="logprobs")
    model_id = model_of(request, asked)
    COMPLETION.require(router.task(model_id), model_id)
    prompts = await _prompts(router, model_id, asked.prompt)
    answers = await choices(router, model_id, COMPLETION, prompts, asked, "prompt")
    echoes = [prompt if asked.echo else "" for prompt in prompts for _ in range(asked.count)]
    return await write_choices(request, answers, asked, CompletionWriter(asked, echoes))


async def _prompts(router: "Router", model_id: str, given: Any) -> list[str]:
    """The prompts as texts. Of token ids none is lost, but the one that begins every text: the model's
    tokenizer puts it there again."""
    if isinstance(given, str) or isinstance(given[0], str):
        return await texts_of(router, model_id, given, "prompt")
    rows = given if isinstance(given[0], list) else [given]
    begin = [token["id"] for token in (await router.tokenize(model_id, [""]))[0][:1]]
    rows = [row[1:] or row if row[:1] == begin else row for row in rows]
    return await texts_of(router, model_id, rows, "prompt", skip_special=False)


class CompletionWriter:
    """Writes how prompts go on; `echoes` are the texts that go before each answer, by its place."""

    prefix = "cmpl"
    whole: type[BaseModel] = Completion
    chunk: type[BaseModel] = Completion

    def __init__(self, asked: CompletionRequest, echoes: list[str]) -> None:
        self._asked, self._echoes = asked, echoes
        self._written = [0] * len(echoes)  # characters of each answer

    def choice(self, place: int, output: Any) -> CompletionChoice:
        details = output.details
        return CompletionChoice(
            index=place,
            text=self._echoes[place] + output.generated_text,
            logprobs=self._logprobs(details.tokens, details.top_tokens),
            finish_reason=finish_reason(details),
        )

    def pieces(self, place: int, chunk: Any) -> list[CompletionChoice]:
        rows = chunk.top_tokens and [chunk.top_tokens]
        choice = CompletionChoice(
            index=place,
            text=self._echoes[place] + visible(chunk.token),
            logprobs=self._logprobs([chunk.token], rows, self._written[place]),
            finish_reason=finish_reason(chunk.details) if chunk.details else None,
        )
        self._written[place] += len(choice.text)
        self._echoes[place] = ""
        told = choice.text or choice.finish_reason or (choice.logprobs and choice.logprobs.tokens)
        return [choice] if told else []

    def _logprobs(self, tokens: Sequence[Any], top_tokens: Any, before: int = 0) -> CompletionLogprobs | None:
        return _logprobs(tokens, top_tokens, before) if self._asked.logprobs is not None else None


def _logprobs(
    tokens: Sequence[Any], top_tokens: Sequence[Sequence[Any]] | None, before: int = 0
) -> CompletionLogprobs:
    """Of the tokens that are text, the first of which begins after `before` characters."""
    places = [place for place, token in enumerate(tokens) if not token.special]
    offsets = []
    for place in places:
        offsets.append(before)
        before += len(tokens[place].text)
    return CompletionLogprobs(
        tokens=[tokens[place].text for place in places],
        token_logprobs=[max(tokens[place].logprob, LEAST_LOGPROB) for place in places],
        top_logprobs=[_likeliest(top_tokens[place]) for place in places] if top_tokens else None,
        text_offset=offsets,
    )


def _likeliest(tokens: Sequence[Any]) -> dict[str, float]:
    """By text, of which two tokens may have the same: the likelier one counts."""
    return {token.text: max(token.logprob, LEAST_LOGPROB) for token in reversed(tokens)}
