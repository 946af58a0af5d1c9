"""Tokenization of texts, and padding of token ids to a batch."""

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from deployments.engines.checkpoint import vocabulary_size
from deployments.errors import ContextLengthExceeded, InvalidInput
from deployments.schema import TextOrTokens

if TYPE_CHECKING:
    import torch

UNKNOWN_TOKEN = "the text has the token {}, which this model does not know"


class TokenIds(list[int]):
    """A text's token ids, without padding, after the text lost `truncated` tokens."""

    truncated: int = 0


def token_ids(
    tokenizer: Any, texts: Sequence[str], limit: int, *, truncate: bool = True, side: str | None = None
) -> list[TokenIds]:
    """Return each text's token ids; a text over `limit` tokens is truncated on `side`.

    Raises `InvalidInput` for a text without tokens, `ContextLengthExceeded` over `limit` without `truncate`.
    """
    encoding = tokenizer(list(texts), verbose=False, return_attention_mask=False, return_token_type_ids=False)
    ids = [*map(TokenIds, encoding["input_ids"])]
    if not all(ids):
        raise InvalidInput("the text has no tokens for this model")
    longest = max(map(len, ids))
    if longest <= limit:
        return ids
    if not truncate:
        raise ContextLengthExceeded(f"the text has {longest:,} tokens; this model reads at most {limit:,}")
    return _truncate(tokenizer, ids, limit, side or tokenizer.truncation_side)


def input_token_ids(
    tokenizer: Any, inputs: Sequence[TextOrTokens], texts: Sequence[str], limit: int, **options: Any
) -> list[TokenIds]:
    """Return as `token_ids` the ids of each input's text in `texts`, or those that the input itself has."""
    given = [TokenIds(item.token_ids) if item.token_ids else None for item in inputs]
    if too_long := next((ids for ids in given if ids and len(ids) > limit), None):
        raise ContextLengthExceeded(
            f"there are {len(too_long):,} token ids; this model reads at most {limit:,}"
        )
    rest = [text for text, ids in zip(texts, given, strict=True) if ids is None]
    encoded = iter(token_ids(tokenizer, rest, limit, **options) if rest else ())
    return [ids or next(encoded) for ids in given]


def _truncate(tokenizer: Any, ids: list[TokenIds], limit: int, side: str) -> list[TokenIds]:
    """Truncate as the tokenizer would. Its own limit is state that all threads share."""
    special = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    prefix, suffix = special.index(0), special[::-1].index(0)
    budget = max(limit - prefix - suffix, 0)
    truncated = []
    for row in ids:
        text = row[prefix : len(row) - suffix]
        kept = text[:budget] if side == "right" else text[max(len(text) - budget, 0) :]
        truncated.append(TokenIds([*row[:prefix], *kept, *row[len(row) - suffix :]]))
        truncated[-1].truncated = len(row) - len(truncated[-1])
    return truncated


class Collator:
    """Pads token ids to a batch, as the tokenizer would, but faster.

    The padding id is the network's own, or else the tokenizer's. A decoder that classifies finds the last
    token of a text by it; without one, each batch gets an id that none of its texts has.
    """

    def __init__(self, tokenizer: Any, model: Any) -> None:
        # A tokenizer may have more tokens than the network's embedding table.
        self.vocabulary = vocabulary_size(model)
        self._config = model.config.get_text_config()
        own = getattr(self._config, "pad_token_id", None)
        self._unset = own is None or not 0 <= own < self.vocabulary
        candidates = (own, tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        self.pad_id: int = next(id for id in candidates if id is not None and 0 <= id < self.vocabulary)
        self.left = tokenizer.padding_side == "left"

    def __call__(self, ids: Sequence[Sequence[int]], device: Any) -> dict[str, "torch.Tensor"]:
        """Return `input_ids` and `attention_mask`, (texts, longest) each, on the device.

        Raises `InvalidInput` for a token outside the embedding table: it would leave a GPU unusable.
        """
        import numpy as np
        import torch

        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        positions = np.arange(lengths.max())
        mask = (positions[::-1] if self.left else positions) < lengths[:, None]
        tokens = np.fromiter(chain.from_iterable(ids), np.int64, lengths.sum())
        if tokens.max() >= self.vocabulary:
            raise InvalidInput(UNKNOWN_TOKEN.format(tokens.max()))
        rows = np.full(mask.shape, self._unused_id(tokens, len(ids)) if self._unset else self.pad_id)
        rows[mask] = tokens
        batch = {"input_ids": rows, "attention_mask": mask.astype(np.int64)}
        return {name: torch.from_numpy(values).to(device) for name, values in batch.items()}

    def _unused_id(self, tokens: Any, texts: int) -> int:
        """Return an id that no text of the batch has, and let the network take it for padding."""
        if texts == 1:
            self._config.pad_token_id = None
            return self.pad_id
        used = set(tokens.tolist())
        unused = (
            id for id in (self.pad_id, *range(len(used) + 1)) if id not in used and id < self.vocabulary
        )
        if (id := next(unused, None)) is None:
            raise RuntimeError(
                "the texts of the batch have all tokens of the vocabulary"
            )  # a smaller one runs
        self._config.pad_token_id = id
        return int(id)
