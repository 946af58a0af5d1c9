"""Incremental decoding of token ids into whole characters.

`tokenizers.decoders.DecodeStream` is no replacement. It cannot end, so it keeps bytes that never become a
character; it raises an error when SentencePiece's byte fallback meets such bytes; it repeats the end of a
prompt that stops inside a character; it cannot use a tokenizer that is written in Python.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

MAX_CHARACTER_TOKENS = 8  # further tokens without a whole character are broken bytes
CACHE_SIZE = 2**14  # decoded sequences; the same short ones recur often
CONTEXT = 6  # tokens before a piece; they decide whether a space precedes it
INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """The decoder of one sequence: it returns the text of tokens once their last character is whole."""

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self.context = list(prompt[-CONTEXT:])
        self.pending: list[int] = []

    def peek(self, id: int) -> str:
        """Return the text that the token `id` would add now, without adding it."""
        return self._new_text(id)

    def push(self, id: int) -> str:
        """Add the token `id`; return the text that it completes, or "" while a character lacks bytes."""
        self.pending.append(id)
        text = self._new_text()
        incomplete = not text or text.endswith(INCOMPLETE)  # some tokenizers drop the bytes instead
        if incomplete and len(self.pending) < MAX_CHARACTER_TOKENS:
            return ""
        self.context, self.pending = self.pending, []
        return text

    def flush(self) -> str:
        """Return the text of the pending tokens, with replacement characters for broken bytes."""
        text = self._new_text() if self.pending else ""
        self.pending = []
        return text

    def _new_text(self, *next_ids: int) -> str:
        context = _decode(self.tokenizer, *self.context)
        return _decode(self.tokenizer, *self.context, *self.pending, *next_ids)[len(context) :]


@lru_cache(CACHE_SIZE)
def _decode(tokenizer: Any, *ids: int) -> str:
    text: str = tokenizer.decode([*ids], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
