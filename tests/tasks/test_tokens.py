"""Texts to padded token ids, as their tokenizers make them."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import tokenizers
import torch

from deployments.errors import InvalidInput
from deployments.tokens import Collator, token_ids
from tests.tasks import tiny
from tests.tasks.samples import LONG

TEXTS = ["I loved it.", "A", "Hello! How are you? My name is Anna."]


def ends() -> Any:
    """As T5's: a token after the text, none before it."""
    tokenizer = tiny.byte_bpe()
    tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("make", [tiny.wordpiece, lambda: tiny.byte_bpe(pad_token="<pad>")])
def test_it_is_what_the_tokenizer_pads(make: Any, side: str) -> None:
    tokenizer = make()
    tokenizer.padding_side = side
    expected = tokenizer(TEXTS, padding=True, return_tensors="pt")
    found = Collator(tokenizer)(token_ids(tokenizer, TEXTS, 512), "cpu")
    assert torch.equal(found["input_ids"], expected["input_ids"])
    assert torch.equal(found["attention_mask"], expected["attention_mask"])


def test_without_a_token_for_padding_the_end_pads() -> None:
    tokenizer = tiny.byte_bpe()
    batch = Collator(tokenizer)([[5, 6, 7], [8]], "cpu")
    end = tokenizer.eos_token_id
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, end, end]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("limit", [3, 9, 16, 500])
@pytest.mark.parametrize("make", [tiny.wordpiece, tiny.byte_bpe, ends])
def test_too_long_a_text_is_cut_as_the_tokenizer_cuts(make: Any, limit: int, side: str) -> None:
    tokenizer = make()
    tokenizer.truncation_side = side
    expected = tokenizer([*TEXTS, LONG], truncation=True, max_length=limit)["input_ids"]
    assert token_ids(tokenizer, [*TEXTS, LONG], limit) == expected
    tokenizer.truncation_side = "right"
    assert token_ids(tokenizer, [*TEXTS, LONG], limit, side=side) == expected


def test_too_long_a_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 16"):
        token_ids(tiny.wordpiece(), ["A", LONG], 16, truncate=False)


def test_other_threads_may_use_the_tokenizer_too() -> None:
    tokenizer = tiny.wordpiece()
    cut, whole = token_ids(tokenizer, [LONG], 16), tokenizer(LONG)["input_ids"]
    with ThreadPoolExecutor(4) as threads:
        cuts = [threads.submit(token_ids, tokenizer, [LONG], 16) for _ in range(50)]
        wholes = [threads.submit(tokenizer, LONG) for _ in range(50)]
    assert all(one.result() == cut for one in cuts)
    assert all(one.result()["input_ids"] == whole for one in wholes)


def test_a_text_without_tokens_is_refused() -> None:
    tokenizer = tiny.byte_bpe()
    tokenizer.backend_tokenizer.normalizer = tokenizers.normalizers.Strip()
    with pytest.raises(InvalidInput, match="no tokens"):
        token_ids(tokenizer, ["A", " "], 16)
