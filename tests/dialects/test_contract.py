"""Every dialect by every task: what is offered works as it is documented, and asked of a model of another
task, it is refused in the dialect's own words."""

import json
import re
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
from deployments.gateway import http_app as web
from deployments.gateway.openapi import document
from deployments.task import TASKS, Task
from tests.fake_router import FakeRouter

DOCUMENT = document(DIALECTS)
RPCS = {f"{rpc.service}/{rpc.name}": rpc for dialect in DIALECTS for rpc in dialect.rpcs()}
OFFERED = [
    pytest.param(dialect, task, id=f"{dialect.name}-{task.name}")
    for dialect in DIALECTS
    for task in TASKS.values()
    if dialect.supported_calls(task, task.name)
]
EVERY_OFFER = pytest.mark.parametrize(("dialect", "task"), OFFERED)


def others(dialect: Dialect, task: Task) -> Iterator[tuple[Task, SupportedCall]]:
    """Each other task, with each of this one's offers, asked of a model of the other: but for the calls that
    the dialect offers for both."""
    for other in TASKS.values():
        known = {(offer.method, offer.path) for offer in dialect.supported_calls(other, other.name)}
        for offer in dialect.supported_calls(task, other.name):
            if (offer.method, offer.path) not in known:
                yield other, offer


@pytest.fixture(scope="module")
def served() -> tuple[FakeRouter, Starlette]:
    router = FakeRouter()
    return router, web.build(router, DIALECTS)


@pytest.fixture
def router(served: tuple[FakeRouter, Starlette]) -> FakeRouter:
    served[0].forget()
    return served[0]


@pytest.fixture
def http(router: FakeRouter, served: tuple[FakeRouter, Starlette]) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(served[1], raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://door", verify=False)


def operation(offer: SupportedCall) -> dict[str, Any]:
    """What OpenAPI says of the path that a request to the offer's path takes."""
    paths = sorted(DOCUMENT["paths"], key=lambda path: [part.startswith("{") for part in path.split("/")])
    for path in paths:
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))
        if offer.method.lower() in DOCUMENT["paths"][path] and re.fullmatch(pattern, offer.path):
            told: dict[str, Any] = DOCUMENT["paths"][path][offer.method.lower()]
            return told
    raise AssertionError(f"no operation is documented at {offer.path}")


def conforms(value: Any, response: dict[str, Any], media_type: str) -> None:
    """Fails unless the document types that response, and the value is of the type."""
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = response["content"][media_type]["schema"]
    assert schema
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema.validate(value, whole, cls=jsonschema.Draft202012Validator)


def events(body: str) -> list[Any]:
    """The data of each server-sent event but the last, if that only says that it is the last."""
    lines = [line.removeprefix("data:").strip() for line in body.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


async def send(http: httpx.AsyncClient, offer: SupportedCall) -> httpx.Response:
    return await http.request(offer.method, offer.path, json=offer.body, headers=dict(offer.headers))


def answer_of(rpc: str) -> type[Message]:
    """The class of an rpc's answer, as reflection tells it."""
    service, name = rpc.split("/")
    described = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return message_factory.GetMessageClass(described.output_type)


async def call(router: Any, offer: SupportedCall) -> list[Any]:
    """The messages that answer."""
    rpc = RPCS[offer.path]
    if isinstance(rpc, Rpc):
        answered = [await rpc.call(router, offer.body, offer.headers)]
    else:
        answered = [raw async for raw in rpc.call(router, once(offer.body), offer.headers)]
    return [answer_of(offer.path).FromString(raw) for raw in answered]


async def once(raw: bytes) -> AsyncIterator[bytes]:
    yield raw


@EVERY_OFFER
async def test_what_is_offered_is_answered_as_documented(http, router, dialect: Dialect, task: Task) -> None:
    for offer in dialect.supported_calls(task, task.name):
        if offer.method == "RPC":
            told = await call(router, offer)
            assert told and all(one.ListFields() and not getattr(one, "error_message", "") for one in told)
            continue
        answered = await send(http, offer)
        assert answered.status_code == 200, f"{offer.path}: {answered.text}"
        response = operation(offer)["responses"]["200"]
        if offer.streams:
            assert answered.headers["content-type"].startswith("text/event-stream")
            told = events(answered.text)
            assert told
            for event in told:
                conforms(event, response, "text/event-stream")
        else:
            conforms(answered.json(), response, "application/json")


@pytest.mark.parametrize(("dialect", "task"), [one for one in OFFERED if [*others(*one.values)]])
async def test_a_model_of_another_task_refuses(http, router, dialect: Dialect, task: Task) -> None:
    for other, offer in others(dialect, task):
        if offer.method == "RPC":
            with pytest.raises(InferenceError) as refused:
                await call(router, offer)
            assert GRPC_STATUS[refused.value.kind] in ("INVALID_ARGUMENT", "NOT_FOUND"), offer
            continue
        answered = await send(http, offer)
        assert 400 <= answered.status_code < 500, f"{other.name} at {offer.path}: {answered.text}"
        conforms(
            answered.json(), operation(offer)["responses"][str(answered.status_code)], "application/json"
        )
    assert not router.asked


@EVERY_OFFER
async def test_an_unknown_model_is_not_found(http, router, dialect: Dialect, task: Task) -> None:
    for offer in dialect.supported_calls(task, "nobody"):
        if isinstance(RPCS.get(offer.path), StreamRpc):
            (told,) = await call(router, offer)
            assert "nobody" in told.error_message
            continue
        if offer.method == "RPC":
            with pytest.raises(InferenceError) as refused:
                await call(router, offer)
            assert refused.value.kind == "not_found"
            continue
        answered = await send(http, offer)
        assert answered.status_code == 404, offer.path
        conforms(answered.json(), operation(offer)["responses"]["404"], "application/json")


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_task_is_offered(task: Task) -> None:
    speaking = {dialect.name for dialect in DIALECTS if dialect.supported_calls(task, task.name)}
    assert {"caikit", "huggingface"} <= speaking
