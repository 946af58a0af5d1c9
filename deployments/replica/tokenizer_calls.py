"""What callers may ask of a model's tokenizer: the tokens of texts, their number, and texts of token ids."""

from typing import Any

from deployments.errors import InvalidInput
from deployments.schema import TextToken


def tokenize(tokenizer: Any, texts: list[str], special: bool) -> list[list[TextToken]]:
    """Return each text's tokens, with the model's special tokens around a text if `special`.

    A tokenizer that is written in Python does not know where in the text a token is.
    """
    encoding = tokenizer(
        texts,
        add_special_tokens=special,
        return_offsets_mapping=tokenizer.is_fast,
        return_special_tokens_mask=True,
        verbose=False,
    )
    rows = encoding["input_ids"], encoding["special_tokens_mask"]
    spans = encoding["offset_mapping"] if tokenizer.is_fast else [[None] * len(ids) for ids in rows[0]]
    return [
        [
            _token(tokenizer, id, text, None if is_special else span, bool(is_special))
            for id, is_special, span in zip(ids, mask, places, strict=True)
        ]
        for ids, mask, places, text in zip(*rows, spans, texts, strict=True)
    ]


def _token(tokenizer: Any, id: int, text: str, span: tuple[int, int] | None, special: bool) -> TextToken:
    start, stop = span or (None, None)
    name = text[start:stop] if span else tokenizer.convert_ids_to_tokens(id)
    return TextToken(id=id, text=name, special=special, start=start, stop=stop)


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
