"""Requests in the Hub's form: content types, bodies, batches, parameters and image URLs."""

from typing import Any

import httpx
import pytest

from deployments.errors import Overloaded
from deployments.routing.validation import RequestValidator
from deployments.task import TASKS
from deployments.wire.huggingface.types import IGNORED_OPTIONS
from tests.fake_router import IMAGE, mock_image_fetcher


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/vnd.api+json",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "",
    ],
)
async def test_json_is_accepted_with_unspecific_content_type(http, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = await http.post("/models/sentiment", content=b' {"inputs": "hi"}', headers=headers)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "multipart/form-data", "image/png"]
)
async def test_unsupported_content_type_is_415(http, content_type: str) -> None:
    headers = {"content-type": content_type}
    response = await http.post("/models/sentiment", content=b'{"inputs": "hi"}', headers=headers)
    assert response.status_code == 415
    assert repr(content_type) in response.json()["error"]
    assert response.json()["error_type"] == "validation"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "Invalid JSON"),
        (b"hi", "Invalid JSON"),
        (b'{"inputs": "hi"', "Invalid JSON"),
        (b"[]", "inputs"),
        (b"{}", "inputs"),
        (b'{"inputs": null}', "inputs"),
        (b'{"inputs": []}', "empty"),
        (b'{"inputs": ""}', "empty"),
        (b'{"inputs": 7}', "text"),
        (b'{"inputs": {"text": "hi", "colour": "red"}}', "colour"),
        (b'{"inputs": "hi", "parameters": []}', "parameters"),
        (b'{"inputs": "hi", "stream": "yes"}', "stream"),
        (b'{"inputs": "hi", "options": []}', "options"),
        (b'{"inputs": "hi", "options": {"wait_for_model": "yes"}}', "wait_for_model"),
        (b'{"inputs": "hi", "options": {"colour": "red"}}', "`options.colour`"),
        (b'{"inputs": "hi", "colour": "red"}', "colour"),
        (b'{"inputs": "hi", "parameters": {"colour": "red"}}', "colour"),
        (b'{"inputs": "hi", "encoding_format": "base64"}', "encoding_format"),
        (b"\xff\xfe", "Invalid JSON"),
    ],
)
async def test_invalid_body_is_422_and_names_field(http, body: bytes, expected: str) -> None:
    response = await http.post("/models/sentiment", content=body)
    assert response.status_code == 422
    assert expected in response.json()["error"]
    assert response.headers["x-error-message"].isascii()


async def test_fields_without_effect_are_ignored(http, router) -> None:
    body = {
        "inputs": "hi",
        "parameters": {"top_k": None},
        "options": {**dict.fromkeys(IGNORED_OPTIONS, True), "wait_for_model": None, "colour": None},
        "stream": False,
        "colour": None,
        "encoding_format": "float",
        "function_to_apply": None,
    }
    assert (await http.post("/models/sentiment", json=body)).status_code == 200
    assert router.received[0].params == TASKS["sentiment"].params()


async def test_parameters_are_accepted_at_top_level(http, router) -> None:
    assert (await http.post("/models/sentiment", json={"inputs": "hi", "top_k": 2})).status_code == 200
    assert router.received[0].params.top_k == 2


async def test_invalid_item_of_batch_has_error_in_its_place(http, router) -> None:
    response = await http.post("/models/sentiment", json={"inputs": ["good", "", "better"]})
    first, second, third = response.json()
    assert first == third == [{"label": "word", "score": 0.5}] * 2
    assert second == {"error": "the text is empty", "error_type": "validation"}
    assert [item.text for item in router.received[0].inputs] == ["good", "better"]


async def test_each_image_url_is_fetched_once(http, router) -> None:
    fetcher, paths = mock_image_fetcher(
        lambda path: httpx.Response(404 if path == "/3" else 200, content=IMAGE)
    )
    router.validator = RequestValidator(fetcher)
    urls = [f"https://allowed.example/{index}" for index in range(16)]
    response = await http.post("/models/image-classification", json={"inputs": urls})
    assert [index for index, item in enumerate(response.json()) if "error" in item] == [3]
    assert sorted(paths) == sorted(f"/{index}" for index in range(16))


async def test_image_urls_over_limit_are_not_fetched(http, router) -> None:
    fetcher, paths = mock_image_fetcher(lambda path: httpx.Response(200, content=IMAGE))
    router.validator = RequestValidator(fetcher)
    body = {"inputs": ["https://allowed.example/"] * 17}
    response = await http.post("/models/image-classification", json=body)
    assert (response.status_code, response.json()["error_type"]) == (413, "validation")
    assert not paths


async def test_batch_without_any_output_is_error_response(http, router) -> None:
    assert (await http.post("/models/sentiment", json={"inputs": ["", ""]})).status_code == 422
    router.outputs["sentiment"] = lambda _: Overloaded("full")
    assert (await http.post("/models/sentiment", json={"inputs": ["a", "b"]})).status_code == 429
    body = {"inputs": ["a", "b"], "parameters": {"top_k": 0}}
    assert "top_k" in (await http.post("/models/sentiment", json=body)).json()["error"]


@pytest.mark.parametrize(
    ("inputs", "turns"),
    [
        ("hi", [1]),
        ([{"role": "user", "content": "hi"}], [1]),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes?"}], [2]),
        (["hi", "hello"], [1, 1]),
        ([[{"role": "user", "content": "hi"}], [{"role": "user", "content": "hello"}]], [1, 1]),
        ([{"messages": "hi"}, {"messages": [{"role": "user", "content": "hi"}]}], [1, 1]),
        ([{"role": "system", "content": ""}, {"role": "user", "content": "hi"}], [2]),
    ],
)
async def test_conversations_are_distinguished_from_batches(
    http, router, inputs: Any, turns: list[int]
) -> None:
    response = await http.post("/models/conversational", json={"inputs": inputs})
    assert response.status_code == 200, response.text
    assert [len(item.messages) for item in router.received[0].inputs] == turns


@pytest.mark.parametrize(
    ("inputs", "sentences"),
    [
        ({"source_sentence": "a", "sentences": ["b", "c"]}, [["b", "c"]]),
        (["b", "c"], [["b", "c"]]),
        ([["b"], ["c"]], [["b"], ["c"]]),
        ([{"sentences": ["b"]}, {"source_sentence": "a", "sentences": ["c"]}], [["b"], ["c"]]),
    ],
)
async def test_lists_of_sentences_are_distinguished_from_batches(
    http, router, inputs: Any, sentences: Any
) -> None:
    response = await http.post("/models/sentence-similarity", json={"inputs": inputs})
    assert response.status_code == 200, response.text
    assert [item.sentences for item in router.received[0].inputs] == sentences
