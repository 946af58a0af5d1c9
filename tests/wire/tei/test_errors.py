"""Errors of Text Embeddings Inference: status and error type."""

from typing import Any

import pytest

from deployments.errors import Forbidden, InvalidInput, Overloaded, TimedOut
from deployments.schema import MAX_ITEMS
from deployments.task import TASKS
from tests.wire.tei.samples import ONE, TWO, VECTOR

RERANK = "/models/sentence-similarity/rerank"


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (InvalidInput("no"), 422, "Validation"),
        (Forbidden("no"), 403, "Validation"),
        (Overloaded("full"), 429, "Overloaded"),
        (TimedOut("late"), 504, "Backend"),
        (ValueError("secret"), 424, "Backend"),
    ],
)
@pytest.mark.parametrize("inputs", [ONE, [ONE, TWO]], ids=["single", "list"])
async def test_error_kind_becomes_status_and_error_type(
    http, router, inputs: Any, error: Exception, status: int, error_type: str
) -> None:
    def fail(item: Any) -> Any:
        if inputs == ONE or item.text == TWO:
            raise error
        return TASKS["embeddings"].output(embedding=VECTOR)

    router.outputs["embeddings"] = fail
    response = await http.post("/embed", json={"inputs": inputs}, headers={"x-request-id": "17"})
    message = "internal error, request id 17" if error_type == "Backend" and status == 424 else str(error)
    assert (response.status_code, response.json()) == (status, {"error": message, "error_type": error_type})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embed", {"inputs": []}),
        ("/embed", {"inputs": ""}),
        ("/embed", {"inputs": [ONE, ""]}),
        ("/embed", {"inputs": [[]]}),
        ("/tokenize", {"inputs": []}),
        ("/decode", {"ids": []}),
        ("/models/sentiment/predict", {"inputs": []}),
        ("/models/sentence-similarity/rerank", {"query": "", "texts": ["a"]}),
        ("/models/sentence-similarity/rerank", {"query": "a", "texts": []}),
        ("/models/sentence-similarity/similarity", {"inputs": {"source_sentence": "a", "sentences": [""]}}),
    ],
    ids=str,
)
async def test_empty_text_or_list_is_400(http, router, path: str, body: Any) -> None:
    response = await http.post(path, json=body)
    assert (response.status_code, response.json()["error_type"]) == (400, "Empty")
    assert not router.received


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/embed", {}, "inputs"),
        ("/embed", [], "valid dictionary"),
        ("/embed", {"inputs": 7}, "a text, a list of texts, a list of token ids"),
        ("/embed", {"inputs": [-1]}, "token ids"),
        ("/embed", {"inputs": [True]}, "token ids"),
        ("/embed", {"inputs": [1, "a"]}, "token ids"),
        ("/embed", {"inputs": {"a": 1}}, "token ids"),
        ("/embed", {"inputs": ONE, "normalise": True}, "`normalise`"),
        ("/embed_all", {"inputs": ONE, "normalize": True}, "`normalize`"),
        ("/tokenize", {"inputs": "a", "colour": "red"}, "`colour`"),
        ("/decode", {"ids": [1], "colour": "red"}, "`colour`"),
        ("/models/sentiment/predict", {"inputs": "a", "colour": "red"}, "`colour`"),
        (RERANK, {"query": "a", "texts": ["b"], "colour": "red"}, "`colour`"),
        (RERANK, {"query": "a", "texts": ["b"], "documents": ["b"]}, "`documents`"),
        (RERANK, {"query": "a", "texts": ["b"], "truncation_direction": "left"}, "truncation_direction"),
        (
            "/models/sentence-similarity/similarity",
            {"inputs": {"source_sentence": "a", "sentences": ["b"], "colour": "red"}},
            "`inputs.colour`",
        ),
        ("/embed", {"inputs": ONE, "dimensions": 0}, "dimensions"),
        ("/embed", {"inputs": ONE, "truncation_direction": "up"}, "truncation_direction"),
        ("/embed", {"inputs": ONE, "encoding_format": "base64"}, "encoding_format"),
        ("/decode", {"ids": ["a"]}, "token ids"),
        ("/tokenize", {"inputs": "a", "prompt_name": "query"}, "prompt_name"),
        ("/models/sentiment/predict", {"inputs": [[1]]}, "inputs"),
        (
            "/models/sentiment/predict",
            {"inputs": "a", "truncation_direction": "left"},
            "truncation_direction",
        ),
        (RERANK, {"query": "a", "texts": "b"}, "a list of texts"),
        (
            "/models/sentence-similarity/similarity",
            {"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": {"prompt_name": "query"}},
            "prompt_name",
        ),
    ],
    ids=str,
)
async def test_invalid_request_is_422_and_names_field(
    http, router, path: str, body: Any, expected: str
) -> None:
    response = await http.post(path, json=body)
    assert (response.status_code, response.json()["error_type"]) == (422, "Validation")
    assert expected in response.json()["error"]
    assert not router.received


async def test_unknown_field_that_is_null_or_empty_is_accepted(http, router) -> None:
    fields = {"colour": None, "colours": [], "pooling": "", "normalise": False}
    assert (
        await http.post("/embed_all", json={"inputs": ONE, "normalize": False, **fields})
    ).status_code == 200
    assert router.received[0].params.normalize is None


async def test_invalid_json_and_content_encoding_are_refused(http) -> None:
    assert (await http.post("/embed", content=b"hi")).json()["error_type"] == "Validation"
    packed = await http.post("/embed", content=b"{}", headers={"content-encoding": "br"})
    assert (packed.status_code, packed.json()["error_type"]) == (415, "Validation")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embed", {"inputs": ["a"] * (MAX_ITEMS + 1)}),
        ("/embed", {"inputs": [1] * 1_000_001}),
        ("/tokenize", {"inputs": ["a"] * (MAX_ITEMS + 1)}),
        ("/decode", {"ids": [[1]] * (MAX_ITEMS + 1)}),
        ("/models/sentiment/predict", {"inputs": [["a"]] * (MAX_ITEMS + 1)}),
        ("/models/sentence-similarity/rerank", {"query": "a", "texts": ["a"] * (MAX_ITEMS + 1)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_list_over_item_limit_is_413(http, router, path: str, body: Any) -> None:
    response = await http.post(path, json=body)
    assert (response.status_code, response.json()["error_type"]) == (413, "Validation")
    assert not router.received


async def test_tokenizer_error_is_422(http) -> None:
    for path, body in (
        ("/embed", {"inputs": [101]}),
        ("/decode", {"ids": [101]}),
        ("/models/object-detection/tokenize", {"inputs": "a"}),
    ):
        response = await http.post(path, json=body)
        assert (response.status_code, response.json()["error_type"]) == (422, "Tokenizer"), path


@pytest.mark.parametrize(
    "route", ["embed", "embed_all", "predict", "rerank", "similarity", "tokenize", "decode"]
)
async def test_unknown_or_broken_model_is_refused(http, route: str) -> None:
    for model_id, status, error_type in (
        ("unknown", 404, "Validation"),
        ("broken", 503, "Unhealthy"),
    ):
        response = await http.post(f"/models/{model_id}/{route}", json={})
        assert (response.status_code, response.json()["error_type"]) == (status, error_type)
