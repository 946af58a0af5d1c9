"""Texts to token ids, and the ids of several texts to one padded batch."""

from collections.abc import Sequence
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Any

from deployments.errors import InvalidInput

if TYPE_CHECKING:
    import torch

UNKNOWN_TOKEN = "the text has the token {}, which this model does not know"


def known_tokens(model: Any) -> float:
    """How many tokens a network knows: any, where it has no table of them."""
    try:
        return len(model.get_input_embeddings().weight)
    except (NotImplementedError, AttributeError):
        return inf


def token_ids(
    tokenizer: Any, texts: Sequence[str], limit: int, *, truncate: bool = True, side: str | None = None
) -> list[list[int]]:
    """Each text's token ids, without padding; `side` is where too long a text loses its rest.

    Raises `InvalidInput` where a text has no tokens, or more than `limit` and is not to be cut.
    """
    told = tokenizer(list(texts), verbose=False, return_attention_mask=False, return_token_type_ids=False)
    ids: list[list[int]] = told["input_ids"]
    if not all(ids):
        raise InvalidInput("the text has no tokens for this model")
    longest = max(map(len, ids))
    if longest <= limit:
        return ids
    if not truncate:
        raise InvalidInput(f"the text has {longest:,} tokens; this model reads at most {limit:,}")
    return _cut(tokenizer, ids, limit, side or tokenizer.truncation_side)


def _cut(tokenizer: Any, ids: list[list[int]], limit: int, side: str) -> list[list[int]]:
    """As the tokenizer would, which keeps the limit as a state of its own, for all threads that use it."""
    signs = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    first, last = signs.index(0), signs[::-1].index(0)
    room = max(limit - first - last, 0)
    cut = []
    for one in ids:
        text = one[first : len(one) - last]
        kept = text[:room] if side == "right" else text[max(len(text) - room, 0) :]
        cut.append([*one[:first], *kept, *one[len(one) - last :]])
    return cut


class Collator:
    """Pads several texts' token ids to one batch, as their tokenizer would, in less time.

    `vocabulary` is how many tokens the network knows: a tokenizer may have more.
    """

    def __init__(self, tokenizer: Any, vocabulary: float) -> None:
        given = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        self.id: int = next(id for id in given if id is not None and id < vocabulary)
        self.vocabulary = vocabulary
        self.left = tokenizer.padding_side == "left"

    def __call__(self, ids: Sequence[Sequence[int]], device: Any) -> dict[str, "torch.Tensor"]:
        """`input_ids` and `attention_mask`, (texts, longest) each, on the device.

        Raises `InvalidInput` for a token that the network does not know: a GPU would run nothing after it.
        """
        import numpy as np
        import torch

        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        places = np.arange(lengths.max())
        mask = (places[::-1] if self.left else places) < lengths[:, None]
        rows = np.full(mask.shape, self.id)
        rows[mask] = np.fromiter(chain.from_iterable(ids), np.int64, lengths.sum())
        if rows.max() >= self.vocabulary:
            raise InvalidInput(UNKNOWN_TOKEN.format(rows.max()))
        batch = {"input_ids": rows, "attention_mask": mask.astype(np.int64)}
        return {name: torch.from_numpy(values).to(device) for name, values in batch.items()}
