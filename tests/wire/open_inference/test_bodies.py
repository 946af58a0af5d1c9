"""Bodies that no client of the Open Inference Protocol should send: refused in its words, at once."""

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


async def refused(http: httpx.AsyncClient, status: int, path: str = PATH, **request: Any) -> str:
    start = time.process_time()
    answered = await http.post(path, **request)
    assert time.process_time() - start < 3
    assert answered.status_code == status, answered.text
    told = answered.json()
    assert list(told) == ["error"] and isinstance(told["error"], str)
    return told["error"]


def changed(**fields: Any) -> dict[str, Any]:
    return {"inputs": [{**TEXT, **fields}]}


def asking(name: str, **parameters: Any) -> dict[str, Any]:
    return {"inputs": [TEXT], "outputs": [{"name": name, "parameters": parameters}]}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "`inputs`"),
        ([], "valid dictionary"),
        ({"inputs": []}, "no inputs"),
        ({"inputs": [TEXT, TEXT]}, "'text' is given twice"),
        ({"inputs": [{**TEXT, "name": "args"}, {**TEXT, "name": "other"}]}, "no input 'other'"),
        ({"inputs": [TEXT, {**TEXT, "name": "other"}]}, "no input 'other'"),
        ({"inputs": [TEXT] * 101}, "at most 100"),
        (changed(shape=[2]), "1 elements"),
        (changed(shape=[1, 1, 1], data=["a", "b"]), "2 elements"),
        (changed(shape=[1, 2], data=["a", "b"]), r"[N] or [N, 1]"),
        (changed(shape=[]), "shape"),
        (changed(shape=[-1]), "negative"),
        (changed(shape=[0], data=[]), "no inputs"),
        (changed(shape=["1"]), "valid integer"),
        (changed(shape=[1.0]), "valid integer"),
        (changed(datatype="STRING"), "datatype"),
        (changed(data=None), "no data"),
        (changed(data=[1]), "not a string"),
        (changed(data=[None]), "not a string"),
        (changed(data={"a": 1}), "valid list"),
        (changed(data=[["a", "b"]], shape=[1, 1]), "nested"),
        (changed(datatype="INT64", data=[1]), "`text`"),
        (changed(parameters={"content_type": "pd"}), "'pd'"),
        (changed(parameters={"content_type": ["str"]}), "content_type"),
        (changed(parameters={"content_type": "hg_json"}), "not valid JSON"),
        (changed(parameters={"content_type": "base64"}, data=["=a"]), "not valid base64"),
        (changed(parameters={"binary_data_size": 5}), "binary_data_size"),
        ({"inputs": [TEXT], "parameters": {"content_type": "pd"}}, "'pd'"),
        ({"inputs": [TEXT], "parameters": {"content_type": {}}}, "content_type"),
        ({"inputs": [TEXT], "parameters": {"temprature": 1}}, "`temprature`"),
        ({"inputs": [TEXT], "outputs": [{"name": "logits"}]}, "no output 'logits'"),
        ({"inputs": [TEXT], "outputs": [{"name": "output"}] * 2}, "requested twice"),
        ({"inputs": [TEXT], "outputs": [{"name": "labels"}] * 101}, "at most 100"),
        (asking("labels", classification=0), "1 or more"),
        (asking("labels", classification=True), "1 or more"),
        (asking("output", classification=1), "no classes"),
        (asking("output", shared_memory_region="x"), "shared memory"),
        ({"inputs": [TEXT, {**TWO, "name": "top_k"}]}, "same for every item"),
    ],
)
async def test_json_that_is_no_request(http, body: Any, said: str) -> None:
    assert said in await refused(http, 400, json=body)


async def test_what_is_too_large(http) -> None:
    many = {**TEXT, "shape": [MAX_ITEMS + 1], "data": ["a"] * (MAX_ITEMS + 1)}
    assert "at most 1,000" in await refused(http, 413, json={"inputs": [many]})
    assert "at most 1,000,000" in await refused(http, 413, json=changed(shape=[10**9, 10**9]))
    assert "accepted" in await refused(http, 413, content=b" " * (MAX_BODY + 1))
    lists = b'{"inputs":[' + b"[]," * (10**7) + b"[]]}"
    assert "lists and objects" in await refused(http, 413, content=lists)
    bomb = gzip.compress(b" " * (MAX_BODY + 1))
    assert "decompresses" in await refused(http, 413, content=bomb, headers={"content-encoding": "gzip"})


@pytest.mark.parametrize(
    ("header", "tail", "said"),
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
async def test_binary_that_is_no_tensor(http, header: str | None, tail: bytes, said: str) -> None:
    head = json.dumps({"inputs": [BINARY]}).encode()
    headers = {HEADER: (str(len(head)) if header is None else header).encode()}
    assert said in await refused(http, 400, content=head + tail, headers=headers)


@pytest.mark.parametrize("size", [-1, 4, 6, 2**70, True, "5", 5.0, [5]])
async def test_a_binary_size_that_is_not_the_element_s(http, size: Any) -> None:
    head = json.dumps({"inputs": [{**BINARY, "parameters": {"binary_data_size": size}}]}).encode()
    await refused(http, 400, content=head + ELEMENT, headers={HEADER: str(len(head))})


async def test_a_raw_body_needs_a_lone_text(http) -> None:
    assert "not valid UTF-8" in await refused(http, 400, content=b"\xff", headers={HEADER: "0"})
    assert "empty" in await refused(http, 400, content=b"", headers={HEADER: "0"})


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 400), ("deflate", 400), ("br", 415)])
async def test_encodings(http, encoding: str, status: int) -> None:
    await refused(http, status, content=b"x", headers={"content-encoding": encoding})


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/nope/infer", 404),
        ("/v2/models/sentiment/versions/2/infer", 404),
        ("/v2/models/loading/infer", 503),
        ("/v2/models/broken/infer", 503),
    ],
)
async def test_models_that_do_not_answer(http, path: str, status: int) -> None:
    await refused(http, status, path, json={"inputs": [TEXT]})


async def test_what_nobody_foresaw_is_not_told(http, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("the secret address is 10.0.0.1")

    monkeypatch.setattr(FakeRouter, "infer", fail)
    assert "10.0.0.1" not in await refused(http, 500, json={"inputs": [TEXT]})


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
    """A request that works, as JSON or with its text in binary; but in up to two places of it lies junk."""
    texts = draw(st.lists(st.text("ab[", min_size=1, max_size=4), min_size=1, max_size=3))
    text: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [len(texts)]}
    tail = b""
    if draw(st.booleans()):
        tail = b"".join(len(one.encode()).to_bytes(4, "little") + one.encode() for one in texts)
        text["parameters"] = {"binary_data_size": len(tail)}
    else:
        text["data"] = list(texts)
    top_k = {"name": "top_k", "datatype": "INT8", "shape": [1], "data": [draw(st.integers(1, 3))]}
    request: dict[str, Any] = {"inputs": [text, top_k], "parameters": {"sort": draw(st.booleans())}}
    request["outputs"] = draw(st.none() | WANTED)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.sampled_from([request, text, top_k, request["parameters"]]))
        if isinstance(place, dict):
            place[draw(st.sampled_from([*place, "parameters", "data", "id"]))] = draw(JUNK)
    return request, draw(st.binary(max_size=20)) if draw(st.integers(0, 9)) == 9 else tail


async def outcome(told: dict[str, Any], tail: bytes) -> str:
    """How a request ends over HTTP: any status but these would be a defect."""
    head = json.dumps(told).encode()
    app = web.build(FakeRouter(), [dialect])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door") as http:
        answered = await http.post(PATH, content=head + tail, headers={HEADER: str(len(head))})
    assert answered.status_code in (200, 400, 413), answered.text
    assert ("outputs" if answered.status_code == 200 else "error") in answered.json()
    return "answered" if answered.status_code == 200 else "refused"


def test_any_request_is_answered_or_refused() -> None:
    seen: Counter[str] = Counter()

    @given(requests())
    @settings(max_examples=250, deadline=None, database=None)
    def try_one(request: tuple[dict[str, Any], bytes]) -> None:
        seen[asyncio.run(outcome(*request))] += 1

    try_one()
    assert min(seen["answered"], seen["refused"]) > 20, seen
