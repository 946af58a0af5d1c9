"""Embeddings, moderations, rerank and score, judged by the openai client where it knows them."""

import base64
import json
import struct
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI, OpenAI

from deployments.errors import InvalidInput, Overloaded, TooLarge
from deployments.schema import MAX_TEXT, Label
from deployments.task import TASKS
from deployments.wire.openai.embeddings import packed_floats
from deployments.wire.openai.moderations import is_benign
from tests.fake_router import FakeRouter
from tests.wire.openai.openai_outputs import always, conforms

FLOATS = st.floats(width=32)


# ----------------------------------------------------------------------------------------------- embeddings


def embed(client: OpenAI, input_: Any, **settings: Any) -> Any:
    return client.embeddings.create(model="embeddings", input=input_, **settings)


def vectors(router: FakeRouter) -> None:
    """Let each text's vector tell its length."""
    output = TASKS["embeddings"].output
    router.outputs["embeddings"] = lambda input_: output(embedding=[float(len(input_.text)), 0.1, -0.5])


def test_embeddings(url, router) -> None:
    vectors(router)
    with OpenAI(base_url=f"{url}/v1", api_key="any", _strict_response_validation=True) as strict:
        told = embed(strict, ["a", "bcd"], encoding_format="float")
    assert [one.index for one in told.data] == [0, 1]
    assert [one.embedding for one in told.data] == [
        pytest.approx([1.0, 0.1, -0.5]),
        pytest.approx([3.0, 0.1, -0.5]),
    ]
    assert (told.usage.prompt_tokens, told.usage.total_tokens) == (14, 14)
    assert (told.object, told.model) == ("list", "embeddings")


def test_what_the_client_packs_is_the_same(client, router) -> None:
    vectors(router)
    packed, plain = embed(client, "a"), embed(client, "a", encoding_format="float")
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding)
    raw = embed(client, "a", encoding_format="base64").data[0].embedding
    assert np.frombuffer(base64.b64decode(raw), "<f4").tolist() == packed.data[0].embedding


@given(st.lists(FLOATS, max_size=50))
@settings(deadline=None)
def test_floats_are_packed_whole(values: list[float]) -> None:
    read = np.frombuffer(base64.b64decode(packed_floats(values)), "<f4")
    assert struct.pack(f"<{len(values)}f", *values) == read.tobytes()
    assert np.array_equal(read, np.array(values, "<f4"), equal_nan=True)


@pytest.mark.parametrize("encoding_format", [None, "float", "base64"])
def test_embeddings_are_as_documented(url, router, encoding_format: str | None) -> None:
    body = {"model": "embeddings", "input": "a", "encoding_format": encoding_format, "user": "me"}
    answered = httpx.post(f"{url}/v1/embeddings", json=body)
    conforms(answered.json(), "Embeddings")
    assert isinstance(answered.json()["data"][0]["embedding"], str if encoding_format == "base64" else list)


@pytest.mark.parametrize(
    ("input_", "read"),
    [
        ("One", ["One"]),
        (["One", "Two"], ["One", "Two"]),
        ([3, 2], ["xxx xx"]),
        ([[0, 3, 2, 0], [4]], ["xxx xx", "xxxx"]),
    ],
    ids=str,
)
def test_texts_and_tokens(client, router, input_: Any, read: list[str]) -> None:
    assert len(embed(client, input_).data) == len(read)
    assert [item.text for item in router.asked[0][1]] == read


def test_dimensions(client, router) -> None:
    embed(client, "a", dimensions=2)
    assert router.asked[0][2].model_dump(exclude_unset=True) == {"dimensions": 2}


async def test_the_async_client(url, router) -> None:
    async with AsyncOpenAI(base_url=f"{url}/models/embeddings/v1", api_key="any") as client:
        told = await client.embeddings.create(model="any", input="a")
        assert told.data[0].embedding == [0.5, 0.5]


def test_a_text_that_fails_is_named(client, router) -> None:
    def answer(input_: Any) -> Any:
        if input_.text == "bad":
            raise InvalidInput("`dimensions` is 9; this model has 2", field="dimensions")
        return TASKS["embeddings"].output(embedding=[1.0])

    router.outputs["embeddings"] = answer
    with pytest.raises(openai.BadRequestError, match="this model has 2") as failed:
        embed(client, ["good", "bad"])
    assert failed.value.param == "input[1]"
    with pytest.raises(openai.BadRequestError) as failed:
        embed(client, "bad")
    assert failed.value.param == "dimensions"
    router.outputs["embeddings"] = always(Overloaded("full"))
    with pytest.raises(openai.RateLimitError):
        embed(client, ["a", "b"])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": ["a"] * 1001}, "input"),
        ({"input": [1, 200]}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": "two"}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_what_cannot_be_embedded_is_named(url, router, body: dict[str, Any], param: str) -> None:
    answered = httpx.post(f"{url}/models/embeddings/v1/embeddings", json=body)
    assert answered.status_code == 400, answered.text
    assert answered.json()["error"]["param"] == param
    assert not router.asked


def test_too_long_a_text(client, router) -> None:
    with pytest.raises(openai.APIStatusError, match="`input`: the text has 1,000,001 characters") as long:
        embed(client, "a" * (MAX_TEXT + 1))
    assert (long.value.status_code, long.value.param) == (413, "input")


def test_too_many_token_ids(client, router, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> list[str]:
        raise TooLarge("there are 1,000,001 token ids")

    monkeypatch.setattr(router, "decode", refuse)
    with pytest.raises(openai.APIStatusError, match="`input`: there are") as many:
        embed(client, [[1]])
    assert (many.value.status_code, many.value.param) == (413, "input")


def test_a_model_without_embeddings(client, router) -> None:
    with pytest.raises(
        openai.BadRequestError, match="'Classify the sentiment of a sentence'; it does not embed texts"
    ):
        client.embeddings.create(model="sentiment", input="a")


# ---------------------------------------------------------------------------------------------- moderations


def labels(router: FakeRouter, **scores: float) -> None:
    found = [Label(label=name.replace("_", " "), score=score) for name, score in scores.items()]
    router.outputs["sentiment"] = lambda _: TASKS["sentiment"].output(labels=found)


def test_moderations(client, router) -> None:
    labels(router, toxic=0.9, insult=0.5, threat=0.1)
    told = client.moderations.create(model="sentiment", input=["You!", "And you!"])
    assert (told.model, len(told.results)) == ("sentiment", 2)
    assert told.id.startswith("modr-")
    first = told.results[0]
    assert first.flagged is True
    assert first.categories.model_extra == {"toxic": True, "insult": True, "threat": False}
    assert first.category_scores.model_extra == {"toxic": 0.9, "insult": 0.5, "threat": 0.1}
    assert first.category_applied_input_types.model_extra["toxic"] == ["text"]
    assert [item.text for item in router.asked[0][1]] == ["You!", "And you!"]


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
def test_what_is_flagged(client, router, scores: dict[str, float], flagged: bool) -> None:
    labels(router, **scores)
    (told,) = client.moderations.create(model="sentiment", input="You!").results
    assert told.flagged is flagged


@pytest.mark.parametrize("name", ["neutral", "Neutral", "NON-TOXIC", "not_offensive", "not  hate", "OK"])
def test_names_that_mean_no_harm(name: str) -> None:
    assert is_benign(name)


@pytest.mark.parametrize("name", ["toxic", "NEGATIVE", "LABEL_0", "unsafe", "not ok", ""])
def test_names_that_may_mean_harm(name: str) -> None:
    assert not is_benign(name)


def test_moderations_are_as_documented(url, router) -> None:
    answered = httpx.post(f"{url}/models/sentiment/v1/moderations", json={"input": "a"})
    assert answered.status_code == 200
    conforms(answered.json(), "Moderations")


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
def test_what_cannot_be_moderated_is_named(client, router, input_: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as failed:
        client.moderations.create(model="sentiment", input=input_)
    assert failed.value.param == param


def test_a_model_without_labels(client, router) -> None:
    with pytest.raises(openai.BadRequestError, match="does not tell labels of a text"):
        client.moderations.create(model="image-classification", input="a")


# ------------------------------------------------------------------------------------------ rerank and score


@pytest.fixture
def compare(url, router) -> Any:
    """Asks to compare; a text is as near as it is long, whatever the other."""
    output = TASKS["sentence-similarity"].output
    router.outputs["sentence-similarity"] = lambda input_: output(
        similarities=[len(one) + 100.0 * len(input_.source_sentence) for one in input_.sentences]
    )

    def ask(path: str, **body: Any) -> httpx.Response:
        return httpx.post(f"{url}{path}", json={"model": "sentence-similarity", **body})

    return ask


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/models/sentence-similarity/v1/rerank"])
def test_rerank(compare, router, path: str) -> None:
    answered = compare(path, query="?", documents=["a", {"text": "ccc", "title": "C"}, "bb"])
    told = answered.json()
    assert told["results"] == [
        {"index": 1, "relevance_score": 103.0, "document": {"text": "ccc"}},
        {"index": 2, "relevance_score": 102.0, "document": {"text": "bb"}},
        {"index": 0, "relevance_score": 101.0, "document": {"text": "a"}},
    ]
    assert (told["model"], told["usage"]) == ("sentence-similarity", {"total_tokens": 7})
    conforms(told, "Ranking")


def test_the_best_alone(compare) -> None:
    told = compare("/v1/rerank", query="?", documents=["a", "ccc", "bb"], top_n=2, return_documents=False)
    assert [(one["index"], one["document"]) for one in told.json()["results"]] == [(1, None), (2, None)]
    conforms(told.json(), "Ranking")


@pytest.mark.parametrize(
    ("first", "second", "scores"),
    [
        ("a", "bb", [102.0]),
        ("a", ["bb", "ccc"], [102.0, 103.0]),
        (["a"], ["bb", "ccc"], [102.0, 103.0]),
        (["a", "aa", "a"], ["b", "bb", "ccc"], [101.0, 202.0, 103.0]),
    ],
    ids=str,
)
def test_score(compare, first: Any, second: Any, scores: list[float]) -> None:
    told = compare("/v1/score", text_1=first, text_2=second).json()
    conforms(told, "Scores")
    assert [(one["index"], one["score"]) for one in told["data"]] == list(enumerate(scores))


def test_pairs_of_one_query_go_together(compare, router) -> None:
    told = compare("/v1/score", text_1=["a", "aa", "a"], text_2=["b", "bb", "ccc"]).json()
    asked = [(inputs[0].source_sentence, inputs[0].sentences) for _, inputs, _ in router.asked]
    assert sorted(asked) == [("a", ["b", "ccc"]), ("aa", ["bb"])]
    assert told["usage"] == {"prompt_tokens": 14, "total_tokens": 14}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/rerank", {"documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": "", "documents": ["a"]}, "query"),
        ("/v1/rerank", {"query": "a"}, "documents"),
        ("/v1/rerank", {"query": "a", "documents": []}, "documents"),
        ("/v1/rerank", {"query": "a", "documents": ["a", {"title": "a"}]}, "documents[1].text"),
        ("/v1/rerank", {"query": "a", "documents": ["a", 7]}, "documents[1]"),
        ("/v1/rerank", {"query": "a", "documents": ["a"] * 1001}, "documents"),
        ("/v1/rerank", {"query": "a", "documents": ["a"], "top_n": 0}, "top_n"),
        ("/v1/score", {"text_1": "a"}, "text_2"),
        ("/v1/score", {"text_1": ["a", "b"], "text_2": "c"}, "text_2"),
        ("/v1/score", {"text_1": ["a", "b"], "text_2": ["c"] * 3}, "text_2"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_what_cannot_be_compared_is_named(
    compare, router, path: str, body: dict[str, Any], param: str
) -> None:
    answered = compare(path, **body)
    assert answered.status_code == 400, answered.text
    assert answered.json()["error"]["param"] == param
    assert not router.asked


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", {"query": "a", "documents": ["b"]}),
        ("/v1/score", {"text_1": ["a", "b"], "text_2": ["c", "d"]}),
    ],
)
def test_a_model_that_compares_nothing(url, router, path: str, body: dict[str, Any]) -> None:
    answered = httpx.post(f"{url}{path}", json={"model": "sentiment", **body})
    assert answered.status_code == 400
    assert "cannot rank texts" in answered.json()["error"]["message"]
