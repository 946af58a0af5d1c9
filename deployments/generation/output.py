"""The output of one sequence: token ids in, whole characters out, and the reason why it finishes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from pydantic import Field

from deployments.generation.detokenizer import Detokenizer
from deployments.schema import Schema

FinishReason = Literal["length", "eos_token", "stop_sequence"]


class Token(Schema):
    """One generated token."""

    id: int = Field(description="The token's id in the model's vocabulary.")
    text: str = Field(description="The text that the token adds; the name of a special token.")
    logprob: float = Field(description="The log probability, before temperature and filters.")
    special: bool = Field(description="Whether the token is special and not part of the text.")


class StreamDetails(Schema):
    """Details of a streamed output."""

    finish_reason: FinishReason = Field(description="Why the generation finished.")
    generated_tokens: int = Field(description="The number of generated tokens.")
    input_length: int = Field(description="The number of prompt tokens, after truncation.")
    seed: int | None = Field(description="The seed that reproduces the output, if it was sampled.")


class Details(StreamDetails):
    """Details of an output."""

    prefill: list[Token] = Field([], description="Always empty; the Hub's clients expect this field.")
    tokens: list[Token] = Field(description="The generated tokens.")
    top_tokens: list[list[Token]] | None = Field(
        None, description="The most likely tokens at each position, best first, if requested."
    )


class Generated(Schema):
    """A generated text."""

    generated_text: str = Field(description="The generated text.")
    details: Details | None = Field(default=None, description="The details, if requested.")


class GeneratedChunk(Schema):
    """One token of a stream; the last chunk has the whole text and the details."""

    index: int = Field(description="The token's position in the output, from 1.")
    token: Token = Field(description="The token.")
    top_tokens: list[Token] | None = Field(
        None, description="The most likely tokens at this position, best first, if requested."
    )
    generated_text: str | None = Field(default=None, description="The whole text, in the last chunk.")
    details: StreamDetails | None = Field(
        default=None, description="The details, in the last chunk, if requested."
    )


class GenerationOutput:
    """The output of one sequence: append tokens until it has a `finish_reason`.

    The output holds back tokens whose text may be part of a character or the start of a stop string, until
    that is clear. So the concatenated texts of the ordinary `tokens` always equal `text`, and none of them
    contains a stop string. `max_new_tokens` limits the number of tokens.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt: Sequence[int],
        *,
        eos_token_ids: set[int],
        max_new_tokens: int,
        stop_strings: Sequence[str],
        seed: int | None,
    ) -> None:
        self.tokenizer, self.detokenizer = tokenizer, Detokenizer(tokenizer, prompt)
        self.prompt, self.eos_token_ids, self.max_new_tokens = prompt, eos_token_ids, max_new_tokens
        self.stop_strings, self.seed = stop_strings, seed
        self.special_token_ids = eos_token_ids.union(tokenizer.all_special_ids)
        self.tokens: list[Token] = []
        self.pending_tokens: list[Token] = []
        self.top_tokens: list[list[Token]] = []
        self.finish_reason: FinishReason | None = None

    @property
    def text(self) -> str:
        return _ordinary_text(self.tokens)

    def append_token(
        self, id: int, logprob: float, top_logprobs: Sequence[tuple[int, float]] = ()
    ) -> list[Token]:
        """Append the next token; return the tokens whose text is now final.

        The last token finalizes all that are pending. `top_logprobs` are the (id, logprob) pairs of the most
        likely tokens at this position, for `top_tokens`.
        """
        if top_logprobs:
            peek = self.detokenizer.peek
            self.top_tokens.append([self._token(id, value, peek) for id, value in top_logprobs])
        self.pending_tokens.append(self._token(id, logprob, self.detokenizer.push))
        self.finish_reason = self._finish_reason()
        if self.finish_reason is None and self._is_undecided():
            return []
        final_tokens, self.pending_tokens = self.pending_tokens, []
        self.tokens += final_tokens
        return final_tokens

    def _token(self, id: int, logprob: float, decode: Callable[[int], str]) -> Token:
        special = id in self.special_token_ids
        text = self.tokenizer.convert_ids_to_tokens(id) if special else decode(id)
        return Token(id=id, text=text, logprob=logprob, special=special)

    def _finish_reason(self) -> FinishReason | None:
        last = self.pending_tokens[-1]
        is_eos = last.id in self.eos_token_ids
        is_full = len(self.tokens) + len(self.pending_tokens) >= self.max_new_tokens
        if is_eos or is_full:
            self._append_text(self.detokenizer.flush())
        if self.stop_strings and (self._cut_at_stop_string() or last.text in self.stop_strings):
            return "stop_sequence"
        return "eos_token" if is_eos else "length" if is_full else None

    def _append_text(self, text: str) -> None:
        """Append the text of an incomplete character to the last ordinary token."""
        for index in reversed(range(len(self.pending_tokens))):
            token = self.pending_tokens[index]
            if text and not token.special:
                self.pending_tokens[index] = _with_text(token, token.text + text)
                return

    def _cut_at_stop_string(self) -> bool:
        text = _ordinary_text(self.pending_tokens)
        remaining = min((text.find(stop) for stop in self.stop_strings if stop in text), default=None)
        if remaining is None:
            return False
        for index, token in enumerate(self.pending_tokens):
            if not token.special:
                self.pending_tokens[index] = _with_text(token, token.text[:remaining])
                remaining -= len(self.pending_tokens[index].text)
        return True

    def _is_undecided(self) -> bool:
        """Return whether a character is incomplete, or the text ends with the start of a stop string."""
        if self.detokenizer.pending:
            return True
        text = _ordinary_text(self.pending_tokens)
        return any(
            text.endswith(stop[:size])
            for stop in self.stop_strings
            for size in range(1, min(len(stop), len(text) + 1))
        )


def to_generated(output: GenerationOutput, details: bool, prefix: str = "") -> Generated:
    """Return a finished output as a task's output; `prefix` goes before its text."""
    if not details:
        return Generated(generated_text=prefix + output.text, details=None)
    top_tokens = output.top_tokens or None
    all_details = Details(**_stream_details(output), tokens=output.tokens, top_tokens=top_tokens)
    return Generated(generated_text=prefix + output.text, details=all_details)


def to_chunks(output: GenerationOutput, tokens: Sequence[Token]) -> Iterator[GeneratedChunk]:
    """Yield the stream's chunks for `tokens`, the last ones of the output."""
    for index, token in enumerate(tokens, len(output.tokens) - len(tokens) + 1):
        top = output.top_tokens[index - 1] if output.top_tokens else None
        last = output.finish_reason is not None and index == len(output.tokens)
        text, details = (output.text, StreamDetails(**_stream_details(output))) if last else (None, None)
        yield GeneratedChunk(index=index, token=token, top_tokens=top, generated_text=text, details=details)


def with_prefix(prefix: str, chunk: GeneratedChunk) -> GeneratedChunk:
    """Return the chunk; if it has the whole text, `prefix` goes before that."""
    if not prefix or chunk.generated_text is None:
        return chunk
    return chunk.model_copy(update={"generated_text": prefix + chunk.generated_text})


def _stream_details(output: GenerationOutput) -> dict[str, Any]:
    return {
        "finish_reason": output.finish_reason,
        "generated_tokens": len(output.tokens),
        "input_length": len(output.prompt),
        "seed": output.seed,
    }


def _ordinary_text(tokens: Sequence[Token]) -> str:
    return "".join(token.text for token in tokens if not token.special)


def _with_text(token: Token, text: str) -> Token:
    return token.model_copy(update={"text": text})
