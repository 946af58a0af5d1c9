"""Completions: generate continuations of prompts, as one response or as a stream."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import InvalidInput
from deployments.wire.openai.choice_writer import MAX_TOP_LOGPROBS, MIN_LOGPROB, respond_with_choices
from deployments.wire.openai.generation import (
    ChoicesRequest,
    CompletionUsage,
    FinishReason,
    TextGenerationCapability,
    choice_generator,
    finish_reason,
    text_of,
)
from deployments.wire.openai.requests import (
    TextsOrTokens,
    Unsupported,
    model_id_of,
    parse_body,
    to_texts,
    with_token_ids,
)

if TYPE_CHECKING:
    from deployments.routing.router import Router

COMPLETION = TextGenerationCapability("complete a text", input_type="text", output_field="generated_text")


class CompletionRequest(ChoicesRequest):
    """One or several prompts: texts, or token ids from the model's own tokenizer."""

    prompt: TextsOrTokens
    echo: bool | None = Field(None, description="Start each text with its prompt.")
    best_of: int | None = Field(None, description="Must equal `n`: every choice is returned.")
    logprobs: int | None = Field(
        None, ge=0, le=MAX_TOP_LOGPROBS, description="Number of likeliest tokens per position."
    )
    suffix: Unsupported = None

    def settings(self) -> dict[str, tuple[str, Any]]:
        return super().settings() | {
            "max_new_tokens": ("max_tokens", self.max_tokens),
            "top_n_tokens": ("logprobs", self.logprobs or None),
        }


class CompletionLogprobs(BaseModel):
    """For each token: its text, its logprob, the likeliest texts at its position and its own with their
    logprobs, and its offset in the choice's text, in characters."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None


class Completion(BaseModel):
    """All choices; in a stream, a part of one choice, or the usage of all."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage | None = None
    system_fingerprint: str | None


async def complete_text(router: "Router", request: Request) -> Response:
    """Continue each prompt `n` times; the choices of the first prompt come first."""
    body = await parse_body(request, CompletionRequest)
    _check_options(body)
    model_id = model_id_of(request, body)
    COMPLETION.require(router.task(model_id), model_id)
    prompts, token_id_lists = await to_texts(router, model_id, body.prompt, "prompt")
    generator = await choice_generator(router, model_id, COMPLETION, prompts, body, "prompt")
    with_token_ids(generator.inputs, token_id_lists, "prompt")
    echoes = [prompt if body.echo else "" for prompt in prompts for _ in range(body.num_choices)]
    return await respond_with_choices(request, generator, body, CompletionWriter(body, echoes))


def _check_options(body: CompletionRequest) -> None:
    if body.best_of not in (None, body.num_choices):
        problem = "`best_of` must equal `n` or be absent: every choice is returned"
        raise InvalidInput(problem, field="best_of")
    if body.echo and body.logprobs is not None:
        problem = "`logprobs` cannot be combined with `echo`, as a prompt's tokens have none; leave out one"
        raise InvalidInput(problem, field="logprobs")


class CompletionWriter:
    """Writes the choices of a completion; `echoes` are the texts that start each choice, by index."""

    id_prefix = "cmpl"
    response_type: type[BaseModel] = Completion
    chunk_type: type[BaseModel] = Completion

    def __init__(self, body: CompletionRequest, echoes: list[str]) -> None:
        self._body, self._echoes = body, echoes
        self._num_characters = [0] * len(echoes)  # sent so far, by the choice's index

    def to_choice(self, index: int, output: Any) -> CompletionChoice:
        details = output.details
        return CompletionChoice(
            index=index,
            text=self._echoes[index] + output.generated_text,
            logprobs=self._requested_logprobs(details.tokens, details.top_tokens),
            finish_reason=finish_reason(details),
        )

    def to_chunk_choices(self, index: int, chunk: Any) -> list[CompletionChoice]:
        top_tokens = chunk.top_tokens and [chunk.top_tokens]
        choice = CompletionChoice(
            index=index,
            text=self._echoes[index] + text_of(chunk.token),
            logprobs=self._requested_logprobs([chunk.token], top_tokens, self._num_characters[index]),
            finish_reason=finish_reason(chunk.details) if chunk.details else None,
        )
        self._num_characters[index] += len(choice.text)
        self._echoes[index] = ""
        has_content = choice.text or choice.finish_reason or (choice.logprobs and choice.logprobs.tokens)
        return [choice] if has_content else []

    def _requested_logprobs(
        self, tokens: Sequence[Any], top_tokens: Any, offset: int = 0
    ) -> CompletionLogprobs | None:
        return None if self._body.logprobs is None else _completion_logprobs(tokens, top_tokens, offset)


def _completion_logprobs(
    tokens: Sequence[Any], top_tokens: Sequence[Sequence[Any]] | None, offset: int
) -> CompletionLogprobs:
    """Convert the logprobs of all tokens except special ones; the first text starts at `offset`."""
    indices = [index for index, token in enumerate(tokens) if not token.special]
    lengths = [len(tokens[index].text) for index in indices]
    return CompletionLogprobs(
        tokens=[tokens[index].text for index in indices],
        token_logprobs=[max(tokens[index].logprob, MIN_LOGPROB) for index in indices],
        top_logprobs=[
            _logprobs_by_text([*(top_tokens[index] if top_tokens else ()), tokens[index]])
            for index in indices
        ],
        text_offset=list(accumulate(lengths, initial=offset))[:-1],
    )


def _logprobs_by_text(tokens: Sequence[Any]) -> dict[str, float]:
    """Map each token's text to its logprob; if two tokens have the same text, the likelier one counts."""
    return {token.text: max(token.logprob, MIN_LOGPROB) for token in reversed(tokens)}
