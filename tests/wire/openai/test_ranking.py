"""The rerank and score routes."""

import json
from typing import Any

import httpx
import pytest

from deployments.task import TASKS
from tests.wire.openai.openai_outputs import assert_matches_schema


@pytest.fixture
def compare(url, router) -> Any:
    """Post to a route that compares texts: a text scores its length, plus 100 times the query's."""
    output = TASKS["sentence-similarity"].output
    router.outputs["sentence-similarity"] = lambda input_: output(
        similarities=[len(text) + 100.0 * len(input_.source_sentence) for text in input_.sentences]
    )

    def post(path: str, **body: Any) -> httpx.Response:
        return httpx.post(f"{url}{path}", json={"model": "sentence-similarity", **body})

    return post


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/models/sentence-similarity/v1/rerank"])
def test_rerank_response(compare, router, path: str) -> None:
    ranking = compare(path, query="?", documents=["a", {"text": "ccc", "title": "C"}, "bb"]).json()
    assert ranking["results"] == [
        {"index": 1, "relevance_score": 103.0, "document": {"text": "ccc"}},
        {"index": 2, "relevance_score": 102.0, "document": {"text": "bb"}},
        {"index": 0, "relevance_score": 101.0, "document": {"text": "a"}},
    ]
    assert (ranking["model"], ranking["usage"]) == ("sentence-similarity", {"total_tokens": 7})
    assert_matches_schema(ranking, "Ranking")


def test_rerank_top_n_without_documents(compare) -> None:
    response = compare("/v1/rerank", query="?", documents=["a", "ccc", "bb"], top_n=2, return_documents=False)
    assert [(item["index"], item["document"]) for item in response.json()["results"]] == [
        (1, None),
        (2, None),
    ]
    assert_matches_schema(response.json(), "Ranking")


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
def test_score_response(compare, first: Any, second: Any, scores: list[float]) -> None:
    response = compare("/v1/score", text_1=first, text_2=second).json()
    assert_matches_schema(response, "Scores")
    assert [(item["index"], item["score"]) for item in response["data"]] == list(enumerate(scores))


def test_score_groups_pairs_by_first_text(compare, router) -> None:
    response = compare("/v1/score", text_1=["a", "aa", "a"], text_2=["b", "bb", "ccc"]).json()
    calls = [(inputs[0].source_sentence, inputs[0].sentences) for _, inputs, _ in router.received]
    assert sorted(calls) == [("a", ["b", "ccc"]), ("aa", ["bb"])]
    assert response["usage"] == {"prompt_tokens": 14, "total_tokens": 14}


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
def test_invalid_ranking_field_returns_400_that_names_it(
    compare, router, path: str, body: dict[str, Any], param: str
) -> None:
    response = compare(path, **body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
    assert not router.received


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", {"query": "a", "documents": ["b"]}),
        ("/v1/score", {"text_1": ["a", "b"], "text_2": ["c", "d"]}),
    ],
)
def test_model_without_similarities_returns_400(url, router, path: str, body: dict[str, Any]) -> None:
    response = httpx.post(f"{url}{path}", json={"model": "sentiment", **body})
    assert response.status_code == 400
    assert "cannot rank texts" in response.json()["error"]["message"]
