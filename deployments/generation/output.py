"""An answer while it is generated: token ids in, whole characters out, and an end when it is due."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from pydantic import Field

from deployments.generation.detokenizer import Detokenizer
from deployments.schema import Schema

FinishReason = Literal["length", "eos_token", "stop_sequence"]


class Token(Schema):
    """One generated token."""

    id: int = Field(description="Its number in the model's vocabulary.")
    text: str = Field(description="What it adds to the text; a special token's name.")
    logprob: float = Field(description="The logarithm of its probability, before temperature and cuts.")
    special: bool = Field(description="Whether it is a sign for the model, and no part of the text.")


class StreamDetails(Schema):
    """How a streamed answer came about."""

    finish_reason: FinishReason = Field(description="Why it ended.")
    generated_tokens: int = Field(description="How many tokens it has.")
    input_length: int = Field(description="How many tokens of the prompt the model has read.")
    seed: int | None = Field(description="What repeats it, where tokens were drawn.")


class Details(StreamDetails):
    """How an answer came about."""

    prefill: list[Token] = Field([], description="Always empty; the Hub's clients expect it.")
    tokens: list[Token] = Field(description="Its tokens.")
    top_tokens: list[list[Token]] | None = Field(
        None, description="The likeliest tokens at the place of each, best first; where asked for."
    )


class Generated(Schema):
    """A generated text."""

    generated_text: str = Field(description="What the model wrote.")
    details: Details | None = Field(default=None, description="How it came about, where asked for.")


class GeneratedChunk(Schema):
    """One token of a streamed answer; the last one carries the whole text and the details."""

    index: int = Field(description="The token's place in the answer, from 1.")
    token: Token = Field(description="The token.")
    top_tokens: list[Token] | None = Field(
        None, description="The likeliest tokens at its place, best first; where asked for."
    )
    generated_text: str | None = Field(default=None, description="The whole text, with the last token.")
    details: StreamDetails | None = Field(default=None, description="How it came about, with the last token.")


class Answer:
    """One answer as it grows: give it tokens until it has a `finish_reason`.

    Tokens whose text may be the start of a stop string, or part of a character, are held until that is clear;
    so the texts of the ordinary `tokens`, put together, are always `text`, and no stop string is among them.
    `ends` are the ids that end an answer, `budget` is the most tokens it may have.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt: Sequence[int],
        *,
        ends: set[int],
        budget: int,
        stops: Sequence[str],
        seed: int | None,
    ) -> None:
        self.tokenizer, self.detokenizer = tokenizer, Detokenizer(tokenizer, prompt)
        self.prompt, self.ends, self.budget, self.stops, self.seed = prompt, ends, budget, stops, seed
        self.special = ends.union(tokenizer.all_special_ids)
        self.tokens: list[Token] = []
        self.held: list[Token] = []
        self.top_tokens: list[list[Token]] = []
        self.finish_reason: FinishReason | None = None

    @property
    def text(self) -> str:
        return _ordinary(self.tokens)

    def push(self, token: int, logprob: float, likeliest: Sequence[tuple[int, float]] = ()) -> list[Token]:
        """Take the next token; return those whose text is now clear, after the last one all that are left.

        `likeliest` are (id, logprob) of the likeliest tokens at its place, for `top_tokens`.
        """
        if likeliest:
            self.top_tokens.append([self._token(id, value, self.detokenizer.peek) for id, value in likeliest])
        self.held.append(self._token(token, logprob, self.detokenizer.push))
        self.finish_reason = self._end()
        if self.finish_reason is None and (self.detokenizer.waiting or (self.stops and self._may_stop())):
            return []
        clear, self.held = self.held, []
        self.tokens += clear
        return clear

    def _token(self, id: int, logprob: float, spell: Callable[[int], str]) -> Token:
        special = id in self.special
        text = self.tokenizer.convert_ids_to_tokens(id) if special else spell(id)
        return Token(id=id, text=text, logprob=logprob, special=special)

    def _end(self) -> FinishReason | None:
        last = self.held[-1]
        ended, full = last.id in self.ends, len(self.tokens) + len(self.held) >= self.budget
        if ended or full:
            self._append(self.detokenizer.flush())
        if self.stops and (self._cut_at_stop() or last.text in self.stops):
            return "stop_sequence"
        return "eos_token" if ended else "length" if full else None

    def _append(self, text: str) -> None:
        """Give text that waited for more bytes, in vain, to the last ordinary token."""
        for place in reversed(range(len(self.held))):
            if text and not self.held[place].special:
                self.held[place] = _with_text(self.held[place], self.held[place].text + text)
                return

    def _cut_at_stop(self) -> bool:
        text = _ordinary(self.held)
        room = min((text.find(stop) for stop in self.stops if stop in text), default=None)
        if room is None:
            return False
        for place, token in enumerate(self.held):
            if not token.special:
                self.held[place] = _with_text(token, token.text[:room])
                room -= len(self.held[place].text)
        return True

    def _may_stop(self) -> bool:
        text = _ordinary(self.held)
        starts = (stop[:size] for stop in self.stops for size in range(1, min(len(stop), len(text) + 1)))
        return any(text.endswith(start) for start in starts)


def whole(answer: Answer, details: bool, before: str = "") -> Generated:
    """The finished answer as an output, after the text `before`."""
    tokens = {"tokens": answer.tokens, "top_tokens": answer.top_tokens or None}
    told = Details(**_facts(answer), **tokens) if details else None
    return Generated(generated_text=before + answer.text, details=told)


def chunks(answer: Answer, tokens: Sequence[Token]) -> Iterator[GeneratedChunk]:
    """What a stream says of the `tokens` that have just become clear."""
    for index, token in enumerate(tokens, len(answer.tokens) - len(tokens) + 1):
        top = answer.top_tokens[index - 1] if answer.top_tokens else None
        last = answer.finish_reason is not None and index == len(answer.tokens)
        text, details = (answer.text, StreamDetails(**_facts(answer))) if last else (None, None)
        yield GeneratedChunk(index=index, token=token, top_tokens=top, generated_text=text, details=details)


def following(before: str, chunk: GeneratedChunk) -> GeneratedChunk:
    """The chunk; where it carries the whole text, that follows the text `before`."""
    if not before or chunk.generated_text is None:
        return chunk
    return chunk.model_copy(update={"generated_text": before + chunk.generated_text})


def _facts(answer: Answer) -> dict[str, Any]:
    return {
        "finish_reason": answer.finish_reason,
        "generated_tokens": len(answer.tokens),
        "input_length": len(answer.prompt),
        "seed": answer.seed,
    }


def _ordinary(tokens: Sequence[Token]) -> str:
    return "".join(token.text for token in tokens if not token.special)


def _with_text(token: Token, text: str) -> Token:
    return token.model_copy(update={"text": text})
