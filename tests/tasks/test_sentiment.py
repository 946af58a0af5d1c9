"""Sentiment: what makes scores, and in which order labels come."""

from typing import Any

import pytest
import transformers as hf

from deployments.tasks.sentiment import Sentiment, SentimentInput, SentimentParams
from tests import tiny_models as tiny
from tests.loaded_models import answers, loaded, starter
from tests.samples import LONG

pytestmark = pytest.mark.model  # loads weights: `make check` leaves these to `make test`


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
