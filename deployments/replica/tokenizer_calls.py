"""What callers may ask of a model's tokenizer: the tokens of texts, their number, and texts of token ids."""

from typing import Any

from deployments.errors import InvalidInput
from deployments.schema import TextToken


def tokenize(tokenizer: Any, texts: list[str], special: bool) -> list[list[TextToken]]:
    """Return each text's tokens, with the model's special tokens around a text if `special`."""
    encoding = tokenizer(
        texts,
        add_special_tokens=special,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )
    rows = encoding["input_ids"], encoding["special_tokens_mask"], encoding["offset_mapping"]
    return [
        [
            TextToken(
                id=id,
                text=tokenizer.convert_ids_to_tokens(id) if is_special else text[start:stop],
                special=bool(is_special),
                start=None if is_special else start,
                stop=None if is_special else stop,
            )
            for id, is_special, (start, stop) in zip(ids, mask, offsets, strict=True)
        ]
        for ids, mask, offsets, text in zip(*rows, texts, strict=True)
    ]


def count_tokens(tokenizer: Any, texts: list[str]) -> list[int]:
    """Return how many tokens each text has, with the model's special tokens."""
    encoding = tokenizer(texts, verbose=False, return_attention_mask=False, return_token_type_ids=False)
    return [len(ids) for ids in encoding["input_ids"]]


def decode(tokenizer: Any, token_ids: list[list[int]], skip_special: bool) -> list[str]:
    """Return the text of each list of token ids. Raises `InvalidInput` for an id that is no token."""
    size = len(tokenizer)
    unknown = next((id for ids in token_ids for id in ids if not 0 <= id < size), None)
    if unknown is not None:
        raise InvalidInput(f"this model has no token {unknown}, only 0 to {size - 1}")
    return [tokenizer.decode(ids, skip_special_tokens=skip_special) for ids in token_ids]
