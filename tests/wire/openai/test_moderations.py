"""Moderations, with the openai client."""

from typing import Any

import httpx
import openai
import pytest

from deployments.schema import Label
from deployments.task import TASKS
from deployments.wire.openai.moderations import is_benign
from tests.fake_router import FakeRouter
from tests.wire.openai.openai_outputs import assert_matches_schema


def set_labels(router: FakeRouter, **scores: float) -> None:
    labels = [Label(label=name.replace("_", " "), score=score) for name, score in scores.items()]
    router.outputs["sentiment"] = lambda _: TASKS["sentiment"].output(labels=labels)


def test_moderations_response(client, router) -> None:
    set_labels(router, toxic=0.9, insult=0.5, threat=0.1)
    moderations = client.moderations.create(model="sentiment", input=["You!", "And you!"])
    assert (moderations.model, len(moderations.results)) == ("sentiment", 2)
    assert moderations.id.startswith("modr-")
    first = moderations.results[0]
    assert first.flagged is True
    assert first.categories.model_extra == {"toxic": True, "insult": True, "threat": False}
    assert first.category_scores.model_extra == {"toxic": 0.9, "insult": 0.5, "threat": 0.1}
    assert first.category_applied_input_types.model_extra["toxic"] == ["text"]
    assert [item.text for item in router.received[0].inputs] == ["You!", "And you!"]


@pytest.mark.parametrize(
    ("scores", "flagged"),
    [
        ({"POSITIVE": 0.9, "NEGATIVE": 0.1}, False),
        ({"POSITIVE": 0.1, "NEGATIVE": 0.9}, True),
        ({"not_toxic": 0.8, "toxic": 0.2}, False),
        ({"LABEL_0": 0.8, "LABEL_1": 0.2}, True),
        ({"a": 0.4, "b": 0.3, "c": 0.3}, False),
        ({"safe": 0.9, "spam": 0.6}, True),
    ],
    ids=str,
)
def test_text_is_flagged_by_labels_that_may_mean_harm(
    client, router, scores: dict[str, float], flagged: bool
) -> None:
    set_labels(router, **scores)
    (moderation,) = client.moderations.create(model="sentiment", input="You!").results
    assert moderation.flagged is flagged


@pytest.mark.parametrize("name", ["neutral", "Neutral", "NON-TOXIC", "not_offensive", "not  hate", "OK"])
def test_benign_label_names(name: str) -> None:
    assert is_benign(name)


@pytest.mark.parametrize("name", ["toxic", "NEGATIVE", "LABEL_0", "unsafe", "not ok", ""])
def test_harmful_or_unknown_label_names(name: str) -> None:
    assert not is_benign(name)


def test_moderations_match_the_schema(url, router) -> None:
    response = httpx.post(f"{url}/models/sentiment/v1/moderations", json={"input": "a"})
    assert response.status_code == 200
    assert_matches_schema(response.json(), "Moderations")


@pytest.mark.parametrize(
    ("input_", "param"),
    [
        ([], "input"),
        ("", "input"),
        (["a", ""], "input[1]"),
        ([{"type": "image_url", "image_url": {"url": "x"}}], "input[0]"),
    ],
    ids=str,
)
def test_invalid_moderations_input_returns_400_that_names_it(client, router, input_: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.moderations.create(model="sentiment", input=input_)
    assert error.value.param == param


def test_model_without_labels_returns_400(client, router) -> None:
    with pytest.raises(openai.BadRequestError, match="it cannot classify texts"):
        client.moderations.create(model="image-classification", input="a")
