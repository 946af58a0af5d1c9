"""Texts to padded token ids, as their tokenizers make them."""

from concurrent.futures import ThreadPoolExecutor
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
import tokenizers
import torch
import transformers

from deployments.engines.checkpoint import Checkpoint, vocabulary_size
from deployments.errors import InvalidInput
from deployments.pipelines.tokenization import Collator, token_ids
from deployments.task import Module
from deployments.tasks.embeddings import Embeddings
from deployments.tasks.sentiment import Sentiment
from deployments.tasks.summarization import Summarization
from tests import tiny_models as tiny
from tests.loaded_models import answers
from tests.samples import LONG

pytestmark = pytest.mark.model

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
def test_collator_matches_the_tokenizers_padding(make: Any, side: str) -> None:
    tokenizer = make()
    tokenizer.padding_side = side
    expected = tokenizer(TEXTS, padding=True, return_tensors="pt")
    found = Collator(tokenizer, network(len(tokenizer), tokenizer.pad_token_id))(
        token_ids(tokenizer, TEXTS, 512), "cpu"
    )
    assert torch.equal(found["input_ids"], expected["input_ids"])
    assert torch.equal(found["attention_mask"], expected["attention_mask"])


def network(vocabulary: int, pad_token_id: int | None) -> Any:
    """Return a network that has a table of embeddings and a padding id."""
    config = SimpleNamespace(pad_token_id=pad_token_id)
    embeddings = SimpleNamespace(weight=range(vocabulary))
    return SimpleNamespace(
        config=SimpleNamespace(get_text_config=lambda: config), get_input_embeddings=lambda: embeddings
    )


def test_padding_without_an_own_id_is_no_token_of_the_batch() -> None:
    tokenizer = tiny.byte_bpe()
    model = network(len(tokenizer), None)
    end = tokenizer.eos_token_id
    ids = Collator(tokenizer, model)([[5, end, 7], [0]], "cpu")["input_ids"]
    padding = model.config.get_text_config().pad_token_id
    assert ids.tolist() == [[5, end, 7], [0, padding, padding]]
    assert padding not in (0, 5, 7, end)


def test_a_batch_with_all_tokens_is_left_to_smaller_ones() -> None:
    tokenizer = tiny.byte_bpe()
    collate = Collator(tokenizer, network(3, None))
    with pytest.raises(RuntimeError, match="all tokens"):
        collate([[0, 1], [2]], "cpu")
    assert collate([[0, 1, 2]], "cpu")["input_ids"].tolist() == [[0, 1, 2]]


def test_eos_pads_without_a_pad_token() -> None:
    tokenizer = tiny.byte_bpe()
    batch = Collator(tokenizer, network(len(tokenizer), None))([[5, 6, 7], [8]], "cpu")
    end = tokenizer.eos_token_id
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, end, end]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_tokens_outside_the_vocabulary_are_refused() -> None:
    tokenizer = tiny.byte_bpe(pad_token="<new>")
    known = tokenizer.pad_token_id
    collate = Collator(tokenizer, network(known, None))
    assert collate([[5, 6], [known - 1]], "cpu")["input_ids"].tolist() == [[5, 6], [known - 1, 1]]
    with pytest.raises(InvalidInput, match=f"the token {known}, which this model does not know"):
        collate([[5, 6], [known]], "cpu")


@pytest.mark.parametrize(("cls", "make"), [
    (Sentiment, tiny.bert), (Embeddings, tiny.encoder), (Summarization, tiny.seq2seq),
])  # fmt: skip
def test_tokenizer_may_have_more_tokens_than_the_network(cls: type[Module], make: Any) -> None:
    module = cls()
    module.load(Checkpoint(str(make())))
    new = len(module.tokenizer)
    module.tokenizer.add_tokens(["zzz"])
    text, params = cls.task.input.model_validate, cls.task.params()
    assert answers(module, [text({"text": "Hello!"})], params)
    with pytest.raises(InvalidInput, match=f"the token {new}, which this model does not know"):
        answers(module, [text({"text": "Hello!"}), text({"text": "A zzz"})], params)


def test_network_without_embedding_table_accepts_any_token() -> None:
    config = transformers.CanineConfig(num_hidden_layers=1, hidden_size=16, num_attention_heads=2)
    with torch.device("meta"):
        assert vocabulary_size(transformers.CanineModel(config)) == inf


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("limit", [3, 9, 16, 500])
@pytest.mark.parametrize("make", [tiny.wordpiece, tiny.byte_bpe, ends])
def test_truncation_matches_the_tokenizer(make: Any, limit: int, side: str) -> None:
    tokenizer = make()
    tokenizer.truncation_side = side
    expected = tokenizer([*TEXTS, LONG], truncation=True, max_length=limit)["input_ids"]
    assert token_ids(tokenizer, [*TEXTS, LONG], limit) == expected
    tokenizer.truncation_side = "right"
    assert token_ids(tokenizer, [*TEXTS, LONG], limit, side=side) == expected


def test_text_over_the_limit_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 16"):
        token_ids(tiny.wordpiece(), ["A", LONG], 16, truncate=False)


def test_tokenization_is_thread_safe() -> None:
    tokenizer = tiny.wordpiece()
    cut, whole = token_ids(tokenizer, [LONG], 16), tokenizer(LONG)["input_ids"]
    with ThreadPoolExecutor(4) as threads:
        cuts = [threads.submit(token_ids, tokenizer, [LONG], 16) for _ in range(50)]
        wholes = [threads.submit(tokenizer, LONG) for _ in range(50)]
    assert all(one.result() == cut for one in cuts)
    assert all(one.result()["input_ids"] == whole for one in wholes)


def test_text_without_tokens_is_refused() -> None:
    tokenizer = tiny.byte_bpe()
    tokenizer.backend_tokenizer.normalizer = tokenizers.normalizers.Strip()
    with pytest.raises(InvalidInput, match="no tokens"):
        token_ids(tokenizer, ["A", " "], 16)
