"""Caikit over HTTP, through the gateway's application: responses, forms, errors, the info routes."""

import base64
import json
from typing import Any

import httpx
import pytest

from deployments.errors import InvalidInput, ModelNotFound, ModelNotReady, Overloaded, TimedOut
from deployments.media import EXAMPLE_IMAGE
from deployments.wire.http import MAX_ELEMENTS
from tests.fake_router import FakeRouter
from tests.wire.caikit.expected_responses import (
    INPUTS,
    OUTPUTS,
    RESPONSES,
    model_info,
    set_error,
    set_output,
)

NINE = sorted(OUTPUTS)
TEXT = "I loved it."


def only_input(router: FakeRouter) -> Any:
    """Return the input of the only request, which has one."""
    ((_, (input,), _),) = router.received
    return input


def last_params(router: FakeRouter) -> Any:
    return router.received[-1].params


def path(task: str) -> str:
    return f"/api/v1/task/{task}"


async def post_task(http: httpx.AsyncClient, task: str, **body: Any) -> httpx.Response:
    return await http.post(path(task), json=body)


@pytest.mark.parametrize("task", NINE)
async def test_task_returns_json_of_reference(http: httpx.AsyncClient, task: str) -> None:
    response = await post_task(http, task, inputs=INPUTS.get(task, TEXT), model_id=task)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json() == RESPONSES[task]


@pytest.mark.parametrize("fields", [{"parameters": {}}, {"parameters": None}])
async def test_empty_parameters_are_accepted(
    http: httpx.AsyncClient, router: FakeRouter, fields: dict[str, Any]
) -> None:
    response = await post_task(http, "sentiment", inputs=TEXT, model_id="sentiment", **fields)
    assert response.status_code == 200
    assert last_params(router).sort is False


async def test_parameters_of_task_apply(http: httpx.AsyncClient, router: FakeRouter) -> None:
    await post_task(
        http, "sentiment", inputs=TEXT, model_id="sentiment", parameters={"top_k": 1, "sort": True}
    )
    assert (last_params(router).top_k, last_params(router).sort) == (1, True)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
async def test_content_type_of_json_is_case_insensitive_with_parameters(
    http: httpx.AsyncClient, content_type: str
) -> None:
    body = json.dumps({"inputs": "日本", "model_id": "sentiment"}).encode()
    response = await http.post(path("sentiment"), content=body, headers={"content-type": content_type})
    assert response.status_code == 200


MISSING = "Sentiment.run() missing 1 required positional argument: 'text_in'"
GOOD = {"inputs": TEXT, "model_id": "sentiment"}
STRING = "Input should be a valid string"
EXTRA = "Extra inputs are not permitted"


@pytest.mark.parametrize(
    ("task", "body", "status", "details"),
    [
        ("sentiment", {"inputs": TEXT}, 400, "Please provide model_id in payload"),
        ("sentiment", {**GOOD, "model_id": ""}, 400, "Missing required model ID"),
        ("sentiment", {**GOOD, "model_id": None}, 422, STRING),
        ("sentiment", {**GOOD, "model_id": 5}, 422, STRING),
        ("sentiment", {**GOOD, "model_id": "nope"}, 404, "Model 'nope' not loaded"),
        ("sentiment", {**GOOD, "model_id": "../etc"}, 404, "Model '../etc' not loaded"),
        (
            "sentiment",
            {**GOOD, "model_id": "summarization"},
            400,
            "Model 'summarization' performs summarization",
        ),
        ("sentiment", {**GOOD, "model_id": "broken"}, 503, "models/broken/config.yml: no"),
        ("sentiment", {**GOOD, "input": "x"}, 422, EXTRA),
        ("sentiment", {"text_in": TEXT, "model_id": "sentiment"}, 422, EXTRA),
        ("sentiment", {**GOOD, "foo": 1}, 422, EXTRA),
        ("sentiment", {**GOOD, "parameters": {"foo": 1}}, 422, EXTRA),
        ("sentiment", {**GOOD, "parameters": {"top_k": "many"}}, 422, "Input should be a valid integer"),
        ("sentiment", {**GOOD, "parameters": []}, 422, "Input should be an object"),
        ("sentiment", {"model_id": "sentiment"}, 400, MISSING),
        ("sentiment", {**GOOD, "inputs": ""}, 400, MISSING),
        ("sentiment", {**GOOD, "inputs": None}, 422, STRING),
        ("sentiment", {**GOOD, "inputs": ["a"]}, 422, STRING),
        ("sentiment", {**GOOD, "inputs": {"text_in": "a"}}, 422, STRING),
        ("sentence-similarity", {"inputs": [], "model_id": "sentence-similarity"}, 400, "missing 1 required"),
        ("sentence-similarity", {"inputs": [""], "model_id": "sentence-similarity"}, 400, "is empty"),
        (
            "sentence-similarity",
            {"inputs": TEXT, "model_id": "sentence-similarity"},
            422,
            "should be a valid array",
        ),
        (
            "object-detection",
            {"inputs": "@@", "model_id": "object-detection"},
            400,
            "Invalid base64-encoded string: ",
        ),
        ("object-detection", {"inputs": "aGVsbG8=", "model_id": "object-detection"}, 400, "not an image"),
        ("object-detection", {"inputs": "/etc/passwd", "model_id": "object-detection"}, 400, ""),
        (
            "embeddings",
            {"inputs": TEXT, "model_id": "embeddings", "parameters": {"pooling": "no"}},
            422,
            "Input should",
        ),
    ],
)
async def test_invalid_request_is_refused(
    http: httpx.AsyncClient, task: str, body: Any, status: int, details: str
) -> None:
    response = await post_task(http, task, **body)
    error = response.json()
    assert response.headers["content-type"] == "application/json"
    assert (response.status_code, error["code"]) == (status, status)
    assert details in error["details"]
    assert set(error) - {"additional_info"} == {"details", "code", "id"}
    assert ("additional_info" in error) == (status == 422)
    assert len(error["id"]) == 32


@pytest.mark.parametrize(
    ("body", "details"),
    [
        (b'{"inputs": ', "Invalid JSON: EOF while parsing a value at line 1 column 11"),
        (b"", "Invalid JSON: EOF while parsing a value at line 1 column 0"),
        (b"[]", "Input should be an object"),
        (b"\xff", "Invalid JSON: "),
    ],
)
async def test_body_that_is_no_json_object_is_422(http: httpx.AsyncClient, body: Any, details: str) -> None:
    response = await http.post(path("sentiment"), content=body, headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert details in response.json()["details"]


async def test_additional_info_has_pydantic_errors(http: httpx.AsyncClient) -> None:
    (error,) = (await post_task(http, "sentiment", inputs=5, model_id="sentiment")).json()["additional_info"]
    assert error["type"] == "string_type"
    assert error["loc"] == ["inputs"]
    assert error["input"] == 5
    assert error["url"].startswith("https://errors.pydantic.dev/")


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ("99999999999999999999", 99999999999999999999),
        ("9" * 4000, int("9" * 4000)),
        ("-1e999", None),
        ("NaN", None),
        (
            '{"\\u0000": [18446744073709551616, {"é": 1.5e300}]}',
            {"\0": [18446744073709551616, {"é": 1.5e300}]},
        ),
        ("[" * 190 + "]" * 190, json.loads("[" * 190 + "]" * 190)),
    ],
    ids=["integer", "long integer", "infinity", "not a number", "object", "deep list"],
)
@pytest.mark.parametrize(
    "form", ['{"inputs": %s, "model_id": "m"}', '{"parameters": {"max_new_tokens": %s}}']
)
async def test_validation_error_repeats_wrong_value(
    http: httpx.AsyncClient, form: str, sent: str, echoed: Any
) -> None:
    headers = {"content-type": "application/json"}
    response = await http.post(path("text-generation"), content=(form % sent).encode(), headers=headers)
    assert response.status_code == 422
    assert response.json()["additional_info"][0]["input"] == echoed


async def test_validation_error_does_not_repeat_large_body(http: httpx.AsyncClient) -> None:
    response = await post_task(http, "sentiment", inputs=["x" * 100_000], model_id="sentiment")
    assert response.status_code == 422
    assert len(response.content) < 1000


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput("the text is too odd"), 400),
        (ModelNotFound("gone"), 404),
        (Overloaded("every queue is full"), 429),
        (ModelNotReady("starting"), 503),
        (TimedOut("no answer within 60 seconds"), 504),
        (RuntimeError("10.0.0.1 Traceback"), 500),
    ],
)
async def test_error_kind_becomes_http_status(
    http: httpx.AsyncClient, router: FakeRouter, error: Exception, status: int
) -> None:
    set_error(router, "sentiment", error)
    response = await post_task(http, "sentiment", **GOOD)
    assert (response.status_code, response.json()["code"]) == (status, status)
    assert "10.0.0.1" not in response.text
    assert ("retry-after" in response.headers) == (status in (429, 503))


async def test_parameters_without_output_for_caikit_are_refused(
    http: httpx.AsyncClient, router: FakeRouter
) -> None:
    set_output(router, "embeddings", {"embedding": [1.0]})
    response = await post_task(
        http, "embeddings", inputs=TEXT, model_id="embeddings", parameters={"pooling": "mean"}
    )
    assert response.status_code == 400
    assert "`tokens`" in response.json()["details"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_other_media_type_is_415(http: httpx.AsyncClient, content_type: str) -> None:
    response = await http.post(path("sentiment"), content=b"x", headers={"content-type": content_type})
    assert response.status_code == 415
    assert response.json() == {"detail": f"Unsupported media type: {content_type}"}


async def test_wrong_method_is_405_and_unknown_task_is_404(http: httpx.AsyncClient) -> None:
    response = await http.get(path("sentiment"))
    assert (response.status_code, response.json()["detail"]) == (405, "Method Not Allowed")
    assert "POST" in response.headers["allow"]
    unknown = await http.post(path("no-such-task"), json=GOOD)
    assert (unknown.status_code, unknown.json()["detail"]) == (404, "Not Found")


async def post_form(http: httpx.AsyncClient, task: str, *fields: tuple[str, Any]) -> httpx.Response:
    files = [(name, (None, value) if isinstance(value, str) else value) for name, value in fields]
    return await http.post(path(task), files=files)


async def test_form_is_parsed(http: httpx.AsyncClient, router: FakeRouter) -> None:
    response = await post_form(http, "sentiment", ("inputs", '{"no": JSON'), ("model_id", "sentiment"))
    assert response.json() == RESPONSES["sentiment"]
    assert only_input(router).text == '{"no": JSON'


@pytest.mark.parametrize(
    ("values", "sentences"), [(["a", "b"], ["a", "b"]), (["a"], ["a"]), (['["a", "b"]'], ["a", "b"])]
)
async def test_form_with_list(
    http: httpx.AsyncClient, router: FakeRouter, values: list[str], sentences: list[str]
) -> None:
    fields = [("inputs", value) for value in values]
    response = await post_form(http, "sentence-similarity", *fields, ("model_id", "sentence-similarity"))
    assert response.status_code == 200, response.text
    assert only_input(router).sentences == sentences


@pytest.mark.parametrize("parameters", [("parameters.top_k", "1"), ("parameters", '{"top_k": 1}')])
async def test_form_with_parameters(
    http: httpx.AsyncClient, router: FakeRouter, parameters: tuple[str, str]
) -> None:
    response = await post_form(http, "sentiment", ("inputs", TEXT), ("model_id", "sentiment"), parameters)
    assert response.status_code == 200, response.text
    assert last_params(router).top_k == 1


@pytest.mark.parametrize(
    "file", [base64.b64decode(EXAMPLE_IMAGE), EXAMPLE_IMAGE.encode()], ids=["image", "base64"]
)
async def test_form_with_image_file(http: httpx.AsyncClient, router: FakeRouter, file: bytes) -> None:
    upload = ("inputs", ("cat.png", file, "image/png"))
    response = await post_form(http, "object-detection", upload, ("model_id", "object-detection"))
    assert response.status_code == 200, response.text
    assert only_input(router).image == base64.b64decode(EXAMPLE_IMAGE)


@pytest.mark.parametrize("key", ["foo", "foo.bar", "inputs.foo", "model_id."])
async def test_form_with_unknown_key_is_422(http: httpx.AsyncClient, key: str) -> None:
    response = await post_form(http, "sentiment", ("inputs", TEXT), ("model_id", "sentiment"), (key, "x"))
    assert (response.status_code, response.json()) == (422, {"detail": f"Unknown key '{key}'"})


@pytest.mark.parametrize(
    ("fields", "status", "details"),
    [
        ([("inputs", TEXT)], 400, "Please provide model_id in payload"),
        ([("model_id", "sentiment")], 400, MISSING),
        ([("inputs", TEXT), ("model_id", "nope")], 404, "Model 'nope' not loaded"),
        (
            [("inputs", TEXT), ("model_id", "sentiment"), ("parameters", "{")],
            422,
            "Input should be an object",
        ),
        ([("inputs", TEXT), ("model_id", "sentiment"), ("parameters.foo", "1")], 422, EXTRA),
    ],
)
async def test_invalid_form_is_refused(
    http: httpx.AsyncClient, fields: list[tuple[str, str]], status: int, details: str
) -> None:
    response = await post_form(http, "sentiment", *fields)
    assert (response.status_code, response.json()["details"]) == (status, details)


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
async def test_malformed_form_is_400(http: httpx.AsyncClient, content_type: str) -> None:
    headers = {"content-type": content_type}
    response = await http.post(path("sentiment"), content=b"--x\r\nnonsense", headers=headers)
    assert response.status_code == 400


async def test_body_with_too_many_lists_is_413(http: httpx.AsyncClient) -> None:
    lists = "[" * (MAX_ELEMENTS + 1)
    plain = await http.post(path("sentiment"), content=lists, headers={"content-type": "application/json"})
    for response in (plain, await post_form(http, "sentiment", ("inputs", TEXT), ("parameters", lists))):
        assert (response.status_code, response.json()["code"]) == (413, 413)
        assert "lists and objects" in response.json()["details"]


@pytest.mark.parametrize(
    ("charset", "name", "text"),
    [("utf-7", "inputs", "+2AA-"), ("utf-7", "+2AA-", "x"), ("idna", "inputs", "xn--a-")],
)
async def test_form_with_undecodable_charset_is_400(
    http: httpx.AsyncClient, charset: str, name: str, text: str
) -> None:
    body = f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n--x--\r\n'
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    response = await http.post(path("sentiment"), content=body.encode(), headers=headers)
    assert (response.status_code, "charset" in response.json()["details"]) == (400, True)


async def test_health_is_ok_after_startup(http: httpx.AsyncClient) -> None:
    response = await http.get("/health")
    assert (response.text, response.headers["content-type"]) == ("OK", "text/plain; charset=utf-8")


async def test_info_version_has_package_versions(http: httpx.AsyncClient) -> None:
    versions = (await http.get("/info/version")).json()
    assert versions["runtime_version"] == ""
    assert versions["python_packages"]["ray"]


NOT_LOADED = {
    "model_path": None,
    "name": "broken",
    "size": None,
    "metadata": None,
    "loaded": False,
    "module_id": None,
    "module_metadata": None,
}


async def test_info_models_of_loaded_and_broken_model(
    http: httpx.AsyncClient, router: FakeRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = router.cards["embeddings"].model_copy(update={"folder": "models/x"})
    monkeypatch.setitem(router.cards, "embeddings", stored)
    response = await http.get("/info/models", params={"model_ids": ["embeddings", "broken"]})
    assert response.json() == {"models": [model_info(router, "embeddings"), NOT_LOADED]}


async def test_info_models_without_ids_lists_every_model(http: httpx.AsyncClient, router: FakeRouter) -> None:
    models = (await http.get("/info/models")).json()["models"]
    assert [model["name"] for model in models] == list(router.cards)


@pytest.mark.parametrize("model_id", ["nope", "sentiment,broken"])
async def test_info_models_of_unknown_model_is_404(http: httpx.AsyncClient, model_id: str) -> None:
    response = await http.get("/info/models", params={"model_ids": model_id})
    assert (response.status_code, response.json()["details"]) == (404, f"Model {model_id} is not loaded")
