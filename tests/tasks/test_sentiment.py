"""Sentiment: what makes scores, and in which order labels come."""

import json
from typing import Any

import pytest
import torch
import transformers as hf

from deployments.errors import ContextLengthExceeded
from deployments.replica.tokenizer_calls import tokenize
from deployments.tasks.sentiment import Sentiment, SentimentInput, SentimentParams
from tests import tiny_models as tiny
from tests.loaded_models import answers, loaded, starter
from tests.samples import LONG

pytestmark = pytest.mark.model


def judge(module: Sentiment, text: str, **params: Any) -> list[tuple[str, float]]:
    [output] = answers(module, [SentimentInput(text=text)], SentimentParams(**params))
    return [(label.label, label.score) for label in output.labels]


def test_sentiment_of_clear_sentences() -> None:
    module = starter(Sentiment.module_id)
    assert judge(module, "I loved every minute of it.")[0][0] == "POSITIVE"
    assert judge(module, "The soup was cold and the waiter rude.")[0][0] == "NEGATIVE"


@pytest.mark.parametrize(("labels", "settings"), [
    (3, {}), (1, {}), (1, {"problem_type": "regression"}),
    (3, {"problem_type": "multi_label_classification"}),
])  # fmt: skip
def test_scores_match_transformers_pipeline(labels: int, settings: dict[str, Any]) -> None:
    module = loaded(Sentiment.module_id, tiny.bert(labels, **settings))
    pipeline = hf.pipeline("text-classification", model=module.model, tokenizer=module.tokenizer)
    [expected] = pipeline(["I loved it."], top_k=None)
    assert judge(module, "I loved it.") == [(e["label"], pytest.approx(e["score"])) for e in expected]


def test_labels_are_sorted_by_score_or_by_id() -> None:
    module = loaded(Sentiment.module_id, tiny.bert())
    best_first = judge(module, "I loved it.")
    assert best_first == sorted(best_first, key=lambda pair: -pair[1])
    own_order = judge(module, "I loved it.", sort=False)
    assert [label for label, _ in own_order] == ["zero", "one", "two"]
    assert sorted(own_order) == sorted(best_first)
    assert judge(module, "I loved it.", top_k=1) == best_first[:1]
    assert judge(module, "I loved it.", top_k=2, sort=False) == [
        pair for pair in own_order if pair in best_first[:2]
    ]


@pytest.mark.parametrize(("function", "total"), [("softmax", 1.0), ("sigmoid", None), ("none", None)])
def test_function_to_apply(function: str, total: float | None) -> None:
    module = loaded(Sentiment.module_id, tiny.bert())
    scores = [score for _, score in judge(module, "A", function_to_apply=function)]
    assert total is None or sum(scores) == pytest.approx(total)
    assert function == "none" or all(0 <= score <= 1 for score in scores)


def test_long_texts_are_truncated() -> None:
    module = loaded(Sentiment.module_id, tiny.bert())
    assert module.max_length == 32
    assert judge(module, LONG) == judge(module, LONG + LONG)


@pytest.mark.parametrize("own_padding", [None, 0, 1, 7, -1])
@pytest.mark.parametrize("tokenizer_padding", [None, "<pad>", "</s>"])
@pytest.mark.parametrize("make", [hf.GPT2ForSequenceClassification, hf.LlamaForSequenceClassification])
def test_decoder_scores_texts_together_as_alone(
    make: Any, tokenizer_padding: str | None, own_padding: int | None
) -> None:
    torch.manual_seed(0)
    tokenizer = tiny.byte_bpe(**({"pad_token": tokenizer_padding} if tokenizer_padding else {}))
    inner = {"intermediate_size": 16} if "Llama" in make.__name__ else {}
    config = make.config_class(
        vocab_size=len(tokenizer), max_position_embeddings=64, hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_labels=2, initializer_range=0.5, **inner,
    )  # fmt: skip
    config.pad_token_id = None if own_padding == -1 else own_padding  # it would be no row of the embeddings
    network = make(config).eval()
    folder = tiny.save(network, tokenizer)
    if own_padding == -1:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token_id": -1}))
    module = loaded(Sentiment.module_id, folder)
    texts = ["I loved it.", LONG[:40], "A", "How are you?</s>", "<pad>"]
    params = SentimentParams(sort=False)
    together = answers(module, [SentimentInput(text=text) for text in texts], params)
    for text, output in zip(texts, together, strict=True):
        with torch.inference_mode():
            logits = network(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits
        assert [label.score for label in output.labels] == pytest.approx(
            logits.softmax(-1)[0].tolist(), abs=1e-5
        )
        assert judge(module, text, sort=False) == [
            (la.label, pytest.approx(la.score, abs=1e-5)) for la in output.labels
        ]


def test_truncation_is_counted_or_refused() -> None:
    module = loaded(Sentiment.module_id, tiny.bert())
    inputs = [SentimentInput(text="A"), SentimentInput(text=LONG)]
    whole = len(module.tokenizer(LONG)["input_ids"])
    encoded = module.encode(inputs, SentimentParams())
    assert [(one.cost, one.truncated) for one in encoded] == [(3, 0), (32, whole - 32)]
    with pytest.raises(ContextLengthExceeded, match=f"{whole:,} tokens"):
        module.encode(inputs, SentimentParams(truncation=False))


@pytest.mark.parametrize(("params", "labels"), [
    ({"return_all_scores": True}, 3), ({"return_all_scores": False}, 1), ({}, 3),
    ({"return_all_scores": False, "top_k": 2}, 2),
])  # fmt: skip
def test_return_all_scores(params: dict[str, Any], labels: int) -> None:
    assert len(judge(loaded(Sentiment.module_id, tiny.bert()), "A", **params)) == labels


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("tokenizer", [hf.CanineTokenizer(), hf.ByT5Tokenizer()], ids=["canine", "byt5"])
def test_tokenizer_without_offsets_tokenizes(tokenizer: Any, special: bool) -> None:
    tokens = tokenize(tokenizer, ["abc", "é"], special)
    for text, row in zip(["abc", "é"], tokens, strict=True):
        assert [token["id"] for token in row] == tokenizer(text, add_special_tokens=special)["input_ids"]
        assert all(token["start"] is token["stop"] is None for token in row)
        assert sum(token["special"] for token in row) == (len(row) - len(tokenizer.tokenize(text)))
