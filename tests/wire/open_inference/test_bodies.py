"""Invalid bodies of the Open Inference Protocol get the right status and error message, quickly."""

import asyncio
import gzip
import json
import time
from collections import Counter
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.dialects.open_inference import dialect
from deployments.gateway import http_app as web
from deployments.schema import MAX_ITEMS
from deployments.wire.http import MAX_BODY
from deployments.wire.open_inference.bodies import HEADER
from tests.fake_router import FakeRouter

PATH = "/v2/models/sentiment/infer"
TEXT = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}
TWO = {**TEXT, "shape": [2], "data": ["1", "2"]}
BINARY = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}
ELEMENT = b"\1\0\0\0a"


async def post_refused(http: httpx.AsyncClient, status: int, path: str = PATH, **request: Any) -> str:
    start = time.process_time()
    response = await http.post(path, **request)
    assert time.process_time() - start < 3
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["error"] and isinstance(body["error"], str)
    return body["error"]


def with_text(**fields: Any) -> dict[str, Any]:
    return {"inputs": [{**TEXT, **fields}]}


def with_output(name: str, **parameters: Any) -> dict[str, Any]:
    return {"inputs": [TEXT], "outputs": [{"name": name, "parameters": parameters}]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "`inputs`"),
        ([], "valid dictionary"),
        ({"inputs": []}, "no inputs"),
        ({"inputs": [TEXT, TEXT]}, "'text' is given twice"),
        ({"inputs": [{**TEXT, "name": "args"}, {**TEXT, "name": "other"}]}, "no input 'other'"),
        ({"inputs": [TEXT, {**TEXT, "name": "other"}]}, "no input 'other'"),
        ({"inputs": [TEXT] * 101}, "at most 100"),
        (with_text(shape=[2]), "1 elements"),
        (with_text(shape=[1, 1, 1], data=["a", "b"]), "2 elements"),
        (with_text(shape=[1, 2], data=["a", "b"]), r"[N] or [N, 1]"),
        (with_text(shape=[]), "shape"),
        (with_text(shape=[-1]), "negative"),
        (with_text(shape=[0], data=[]), "no inputs"),
        (with_text(shape=["1"]), "valid integer"),
        (with_text(shape=[1.0]), "valid integer"),
        (with_text(datatype="STRING"), "datatype"),
        (with_text(data=None), "no data"),
        (with_text(data=[1]), "not a string"),
        (with_text(data=[None]), "not a string"),
        (with_text(data={"a": 1}), "valid list"),
        (with_text(data=[["a", "b"]], shape=[1, 1]), "nested"),
        (with_text(datatype="INT64", data=[1]), "`text`"),
        (with_text(parameters={"content_type": "pd"}), "'pd'"),
        (with_text(parameters={"content_type": ["str"]}), "content_type"),
        (with_text(parameters={"content_type": "hg_json"}), "not valid JSON"),
        (with_text(parameters={"content_type": "base64"}, data=["=a"]), "not valid base64"),
        (with_text(parameters={"binary_data_size": 5}), "binary_data_size"),
        ({"inputs": [TEXT], "parameters": {"content_type": "pd"}}, "'pd'"),
        ({"inputs": [TEXT], "parameters": {"content_type": {}}}, "content_type"),
        ({"inputs": [TEXT], "parameters": {"temprature": 1}}, "`temprature`"),
        ({"inputs": [TEXT], "outputs": [{"name": "logits"}]}, "no output 'logits'"),
        ({"inputs": [TEXT], "outputs": [{"name": "output"}] * 2}, "requested twice"),
        ({"inputs": [TEXT], "outputs": [{"name": "labels"}] * 101}, "at most 100"),
        (with_output("labels", classification=0), "greater than or equal to 1"),
        (with_output("labels", classification=True), "valid integer"),
        (with_output("output", classification=1), "no classes"),
        (
            with_output("output", shared_memory_region="x"),
            "`outputs[0].parameters.shared_memory_region`",
        ),
        ({"inputs": [TEXT, {**TWO, "name": "top_k"}]}, "same for every item"),
    ],
)
async def test_invalid_json_request_returns_400_that_names_the_problem(http, body: Any, message: str) -> None:
    assert message in await post_refused(http, 400, json=body)


async def test_too_large_request_returns_413(http) -> None:
    too_many = {**TEXT, "shape": [MAX_ITEMS + 1], "data": ["a"] * (MAX_ITEMS + 1)}
    assert "at most 1,000" in await post_refused(http, 413, json={"inputs": [too_many]})
    assert "at most 1,000,000" in await post_refused(http, 413, json=with_text(shape=[10**9, 10**9]))
    assert "accepted" in await post_refused(http, 413, content=b" " * (MAX_BODY + 1))
    lists = b'{"inputs":[' + b"[]," * (10**7) + b"[]]}"
    assert "lists and objects" in await post_refused(http, 413, content=lists)
    bomb = gzip.compress(b" " * (MAX_BODY + 1))
    assert "decompresses" in await post_refused(http, 413, content=bomb, headers={"content-encoding": "gzip"})


@pytest.mark.parametrize(
    ("header", "tail", "message"),
    [
        ("-1", ELEMENT, "number of bytes"),
        ("x", ELEMENT, "number of bytes"),
        ("", ELEMENT, "number of bytes"),
        ("²", ELEMENT, "number of bytes"),
        ("1e2", ELEMENT, "number of bytes"),
        ("9" * 5000, ELEMENT, "number of bytes"),
        ("1000", ELEMENT, "number of bytes"),
        ("1", ELEMENT, "Invalid JSON"),
        (None, b"", "binary_data_size"),
        (None, ELEMENT[:4], "binary_data_size"),
        (None, ELEMENT + b"x", "1 bytes after"),
        (None, b"\2\0\0\0a", "longer than"),
        (None, b"\0\0\0\0a", "after its last"),
        (None, b"\xff\xff\xff\xff\xff", "longer than"),
        (None, b"\1\0\0\0\xff", "not valid UTF-8"),
    ],
)
async def test_invalid_binary_tensor_returns_400(http, header: str | None, tail: bytes, message: str) -> None:
    head = json.dumps({"inputs": [BINARY]}).encode()
    headers = {HEADER: (str(len(head)) if header is None else header).encode()}
    assert message in await post_refused(http, 400, content=head + tail, headers=headers)


@pytest.mark.parametrize("size", [-1, 4, 6, 2**70, True, "5", 5.0, [5]])
async def test_wrong_binary_data_size_returns_400(http, size: Any) -> None:
    head = json.dumps({"inputs": [{**BINARY, "parameters": {"binary_data_size": size}}]}).encode()
    await post_refused(http, 400, content=head + ELEMENT, headers={HEADER: str(len(head))})


async def test_raw_body_must_be_a_text(http) -> None:
    assert "not valid UTF-8" in await post_refused(http, 400, content=b"\xff", headers={HEADER: "0"})
    assert "empty" in await post_refused(http, 400, content=b"", headers={HEADER: "0"})


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 400), ("deflate", 400), ("br", 415)])
async def test_unreadable_content_encoding_returns_400_or_415(http, encoding: str, status: int) -> None:
    await post_refused(http, status, content=b"x", headers={"content-encoding": encoding})


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/nope/infer", 404),
        ("/v2/models/sentiment/versions/2/infer", 404),
        ("/v2/models/loading/infer", 503),
        ("/v2/models/broken/infer", 503),
    ],
)
async def test_unknown_model_returns_404_and_model_that_is_not_ready_503(
    http, path: str, status: int
) -> None:
    await post_refused(http, status, path, json={"inputs": [TEXT]})


async def test_unexpected_error_hides_its_message(http, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("the secret address is 10.0.0.1")

    monkeypatch.setattr(FakeRouter, "infer", fail)
    assert "10.0.0.1" not in await post_refused(http, 500, json={"inputs": [TEXT]})


JUNK: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats()
    | st.sampled_from(["text", "BYTES", "[", ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*TEXT, "parameters"]), inner)
    ),
    max_leaves=10,
)
WANTED = st.sampled_from(["output", "labels", "scores"]).map(lambda name: [{"name": name}])


@st.composite
def requests(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    """Draw a valid request, its text as JSON or in binary; replace up to two of its values by junk."""
    texts = draw(st.lists(st.text("ab[", min_size=1, max_size=4), min_size=1, max_size=3))
    text: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [len(texts)]}
    tail = b""
    if draw(st.booleans()):
        tail = b"".join(len(item.encode()).to_bytes(4, "little") + item.encode() for item in texts)
        text["parameters"] = {"binary_data_size": len(tail)}
    else:
        text["data"] = list(texts)
    top_k = {"name": "top_k", "datatype": "INT8", "shape": [1], "data": [draw(st.integers(1, 3))]}
    request: dict[str, Any] = {"inputs": [text, top_k], "parameters": {"sort": draw(st.booleans())}}
    request["outputs"] = draw(st.none() | WANTED)
    for _ in range(draw(st.integers(0, 2))):
        value = draw(st.sampled_from([request, text, top_k, request["parameters"]]))
        if isinstance(value, dict):
            value[draw(st.sampled_from([*value, "parameters", "data", "id"]))] = draw(JUNK)
    return request, draw(st.binary(max_size=20)) if draw(st.integers(0, 9)) == 9 else tail


async def post_outcome(request: dict[str, Any], tail: bytes) -> str:
    """Return whether the server accepts or refuses a request; any other status is a defect."""
    head = json.dumps(request).encode()
    app = web.build(FakeRouter(), [dialect])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        response = await http.post(PATH, content=head + tail, headers={HEADER: str(len(head))})
    assert response.status_code in (200, 400, 413), response.text
    assert ("outputs" if response.status_code == 200 else "error") in response.json()
    return "accepted" if response.status_code == 200 else "refused"


def test_any_request_is_accepted_or_refused() -> None:
    outcomes: Counter[str] = Counter()

    @given(requests())
    @settings(max_examples=250, deadline=None, database=None)
    def post(request: tuple[dict[str, Any], bytes]) -> None:
        outcomes[asyncio.run(post_outcome(*request))] += 1

    post()
    assert min(outcomes["accepted"], outcomes["refused"]) > 20, outcomes
