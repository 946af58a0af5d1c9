"""Texts over the limits of tokens or characters."""

from typing import Any

import pytest

from deployments.errors import ContextLengthExceeded
from deployments.schema import MAX_TEXT
from tests.wire.tei.samples import (
    last_params,
)

LONG = "word " * 600  # 600 tokens, and two special tokens around them
VERY_LONG = "word " * (MAX_TEXT // 5 + 1)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/models/sentiment/predict", {"inputs": [["short"], [LONG]]}),
        ("/models/sentence-similarity/rerank", {"query": LONG, "texts": ["short"]}),
        ("/models/sentence-similarity/rerank", {"query": "short", "texts": ["short", LONG]}),
    ],
)
async def test_text_over_token_limit_is_refused_without_truncate(
    http, router, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    monkeypatch.setattr(router, "tokenize", None)  # counting the tokens is enough
    response = await http.post(path, json=body)
    assert (response.status_code, response.json()["error_type"]) == (413, "Validation")
    assert "602 tokens" in response.json()["error"]
    assert "512" in response.json()["error"]
    assert not router.received
    assert (await http.post(path, json={**body, "truncate": True})).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"inputs": VERY_LONG}),
        ("/tokenize", {"inputs": ["short", VERY_LONG]}),
        ("/models/sentiment/predict", {"inputs": VERY_LONG}),
        ("/models/sentiment/predict", {"inputs": [["short"], [VERY_LONG]]}),
        ("/models/sentence-similarity/rerank", {"query": VERY_LONG, "texts": ["short"]}),
        ("/models/sentence-similarity/rerank", {"query": "short", "texts": [VERY_LONG]}),
        (
            "/models/sentence-similarity/similarity",
            {"inputs": {"source_sentence": "short", "sentences": [VERY_LONG]}},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_text_over_character_limit_is_413(http, path: str, body: dict[str, Any]) -> None:
    response = await http.post(path, json=body)
    assert (response.status_code, response.json()["error_type"]) == (413, "Validation")
    assert "characters" in response.json()["error"]


async def test_text_with_many_bytes_and_few_tokens_is_accepted(http) -> None:
    assert (await http.post("/models/sentiment/predict", json={"inputs": "\u6587" * 600})).status_code == 200


async def test_task_with_truncate_parameter_checks_length_itself(http, router) -> None:
    router.outputs["embeddings"] = lambda _: ContextLengthExceeded("the text has 602 tokens")
    response = await http.post("/embed", json={"inputs": LONG})
    assert (response.status_code, response.json()["error_type"]) == (413, "Validation")
    assert last_params(router).truncate is False
