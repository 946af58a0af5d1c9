"""Every dialect with every task: supported calls work as documented, and errors have the dialect's form."""

import gzip
import json
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from starlette.applications import Starlette

from deployments.dialect import GRPC_STATUS, Dialect, Rpc, StreamRpc, SupportedCall
from deployments.dialects import DIALECTS
from deployments.errors import InferenceError
from deployments.gateway import http_app
from deployments.gateway.openapi import document
from deployments.task import TASKS, Task
from tests.fake_router import FakeRouter

DOCUMENT = document(DIALECTS)
RPCS = {f"{rpc.service}/{rpc.name}": rpc for dialect in DIALECTS for rpc in dialect.rpcs()}
SUPPORTED = [
    pytest.param(dialect, task, id=f"{dialect.name}-{task.name}")
    for dialect in DIALECTS
    for task in TASKS.values()
    if dialect.supported_calls(task, task.name)
]
every_supported_pair = pytest.mark.parametrize(("dialect", "task"), SUPPORTED)


def mismatched_calls(dialect: Dialect, task: Task) -> Iterator[tuple[Task, SupportedCall]]:
    """Yield the calls of `task` to a model of each other task, except calls that the other supports too."""
    for other in TASKS.values():
        own_paths = {(call.method, call.path) for call in dialect.supported_calls(other, other.name)}
        for call in dialect.supported_calls(task, other.name):
            if (call.method, call.path) not in own_paths:
                yield other, call


@pytest.fixture(scope="module")
def served() -> tuple[FakeRouter, Starlette]:
    router = FakeRouter()
    return router, http_app.build(router, DIALECTS)


@pytest.fixture
def router(served: tuple[FakeRouter, Starlette]) -> FakeRouter:
    served[0].reset()
    return served[0]


@pytest.fixture
def http(router: FakeRouter, served: tuple[FakeRouter, Starlette]) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(served[1], raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test", verify=False)


def documented_operation(call: SupportedCall) -> dict[str, Any]:
    """Return the OpenAPI operation that serves the call."""
    paths = sorted(DOCUMENT["paths"], key=lambda path: [part.startswith("{") for part in path.split("/")])
    for path in paths:
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))
        if call.method.lower() in DOCUMENT["paths"][path] and re.fullmatch(pattern, call.path):
            operation: dict[str, Any] = DOCUMENT["paths"][path][call.method.lower()]
            return operation
    raise AssertionError(f"no operation is documented at {call.path}")


def assert_conforms(value: Any, response: dict[str, Any], media_type: str) -> None:
    """Fail unless the document types the response, and the value has the type."""
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = response["content"][media_type]["schema"]
    assert schema
    resolvable = {**schema, "components": DOCUMENT["components"]}
    jsonschema.validate(value, resolvable, cls=jsonschema.Draft202012Validator)


def events(body: str) -> list[Any]:
    """Return the data of each server-sent event, without OpenAI's end mark."""
    lines = [line.removeprefix("data:").strip() for line in body.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


async def send(http: httpx.AsyncClient, call: SupportedCall) -> httpx.Response:
    return await http.request(call.method, call.path, json=call.body, headers=dict(call.headers))


async def send_encoded(
    http: httpx.AsyncClient, call: SupportedCall, encoding: str, body: bytes
) -> httpx.Response:
    headers = {**call.headers, "content-type": "application/json", "content-encoding": encoding}
    return await http.request(call.method, call.path, content=body, headers=headers)


def response_class(rpc: str) -> type[Message]:
    """Return the class of an rpc's response, from the descriptors that reflection serves."""
    service, name = rpc.split("/")
    method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return message_factory.GetMessageClass(method.output_type)


async def call_rpc(router: Any, call: SupportedCall) -> list[Any]:
    """Call an rpc; return the response messages."""
    rpc = RPCS[call.path]
    if isinstance(rpc, Rpc):
        responses = [await rpc.call(router, call.body, call.headers)]
    else:
        responses = [raw async for raw in rpc.call(router, single_item(call.body), call.headers)]
    return [response_class(call.path).FromString(raw) for raw in responses]


async def single_item(raw: bytes) -> AsyncIterator[bytes]:
    yield raw


@every_supported_pair
async def test_supported_call_returns_documented_response(http, router, dialect: Dialect, task: Task) -> None:
    for call in dialect.supported_calls(task, task.name):
        if call.method == "RPC":
            messages = await call_rpc(router, call)
            assert messages
            assert all(msg.ListFields() and not getattr(msg, "error_message", "") for msg in messages)
            continue
        response = await send(http, call)
        assert response.status_code == 200, f"{call.path}: {response.text}"
        documented = documented_operation(call)["responses"]["200"]
        if call.streams:
            assert response.headers["content-type"].startswith("text/event-stream")
            chunks = events(response.text)
            assert chunks
            for chunk in chunks:
                assert_conforms(chunk, documented, "text/event-stream")
        else:
            assert_conforms(response.json(), documented, "application/json")


@pytest.mark.parametrize(
    ("dialect", "task"), [pair for pair in SUPPORTED if [*mismatched_calls(*pair.values)]]
)
async def test_call_to_model_of_another_task_is_refused(http, router, dialect: Dialect, task: Task) -> None:
    for other, call in mismatched_calls(dialect, task):
        if call.method == "RPC":
            with pytest.raises(InferenceError) as error:
                await call_rpc(router, call)
            assert GRPC_STATUS[error.value.kind] in ("INVALID_ARGUMENT", "NOT_FOUND"), call
            continue
        response = await send(http, call)
        assert 400 <= response.status_code < 500, f"{other.name} at {call.path}: {response.text}"
        assert_conforms(
            response.json(),
            documented_operation(call)["responses"][str(response.status_code)],
            "application/json",
        )
    assert not router.received


@every_supported_pair
@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "GZIP, identity"])
async def test_body_may_be_compressed(http, router, dialect: Dialect, task: Task, encoding: str) -> None:
    compress = zlib.compress if encoding == "deflate" else gzip.compress
    for call in dialect.supported_calls(task, task.name):
        if call.method != "POST":
            continue
        plain = await send(http, call)
        response = await send_encoded(http, call, encoding, compress(json.dumps(call.body).encode()))
        assert (response.status_code, plain.status_code) == (200, 200), f"{call.path}: {response.text}"
        first, second = router.received[-2:] if router.received else (None, None)
        assert first == second, call.path


@every_supported_pair
async def test_encoded_body_that_cannot_be_read_is_refused(
    http, router, dialect: Dialect, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.wire.http.MAX_BODY", 10_000)
    bomb = gzip.compress(b" " * 10_001)
    for call in dialect.supported_calls(task, task.name):
        if call.method != "POST":
            continue
        for encoding, body in (("br", b"x"), ("gzip, gzip", b"x")):
            unknown = await send_encoded(http, call, encoding, body)
            assert unknown.status_code == 415, call.path
            assert f"the Content-Encoding '{encoding}' is not supported" in unknown.text
            documented = documented_operation(call)["responses"]["415"]
            assert_conforms(unknown.json(), documented, "application/json")
        huge = await send_encoded(http, call, "gzip", bomb)
        assert huge.status_code == 413, call.path
        assert_conforms(huge.json(), documented_operation(call)["responses"]["413"], "application/json")
        broken = await send_encoded(http, call, "gzip", b"{}")
        assert broken.status_code in (400, 422), call.path
        assert "Content-Encoding" in broken.text
    assert not router.received


@every_supported_pair
async def test_unknown_model_is_not_found(http, router, dialect: Dialect, task: Task) -> None:
    for call in dialect.supported_calls(task, "unknown"):
        if isinstance(RPCS.get(call.path), StreamRpc):
            (message,) = await call_rpc(router, call)
            assert "unknown" in message.error_message
            continue
        if call.method == "RPC":
            with pytest.raises(InferenceError) as error:
                await call_rpc(router, call)
            assert error.value.kind == "not_found"
            continue
        response = await send(http, call)
        assert response.status_code == 404, call.path
        assert_conforms(response.json(), documented_operation(call)["responses"]["404"], "application/json")


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_caikit_and_huggingface_support_every_task(task: Task) -> None:
    supporting = {dialect.name for dialect in DIALECTS if dialect.supported_calls(task, task.name)}
    assert {"caikit", "huggingface"} <= supporting


@pytest.mark.parametrize(("method", "path", "status", "keys"), [
    ("POST", "/v1/images/generations", 404, {"error"}),
    ("DELETE", "/v1/chat/completions", 405, {"error"}),
    ("POST", "/v2/models/x/unknown", 404, {"error"}),
    ("PUT", "/v2/models/x/infer", 405, {"error"}),
    ("POST", "/api/v1/unknown/x", 404, {"detail"}),
    ("GET", "/api/v1/task/sentiment", 405, {"detail"}),
    ("POST", "/models/sentiment/unknown/route", 404, {"error"}),
])  # fmt: skip
async def test_unknown_route_and_method_have_the_dialects_form(
    http: httpx.AsyncClient, method: str, path: str, status: int, keys: set[str]
) -> None:
    response = await http.request(method, path)
    assert (response.status_code, response.json().keys()) == (status, keys)
    if path.startswith("/v1/"):
        assert response.json()["error"].keys() == {"message", "type", "param", "code"}
    if status == 405:
        assert response.headers["allow"]
