"""Every route of the OpenAI dialect, with the models of every task."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from deployments.dialects import DIALECTS
from deployments.dialects.openai import dialect
from deployments.gateway import http_app as web
from deployments.schema import Schema, Text
from deployments.task import TASKS, Task
from deployments.wire.http import MAX_ELEMENTS
from deployments.wire.openai.completions import COMPLETION
from deployments.wire.openai.messages import CHAT
from tests.fake_router import FakeRouter
from tests.wire.openai.openai_outputs import assert_matches_schema

EVERY_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
RESPONSE_TYPES = {
    operation.path.removeprefix("/v1/"): (operation.response, operation.event)
    for operation in dialect.operations()
    if operation.method == "POST" and operation.path.startswith("/v1/")
}
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"model": "conversational", "messages": [{"role": "user", "content": "Hi"}]},
    "completions": {"model": "text-generation", "prompt": "Hi"},
    "responses": {"model": "conversational", "input": "Hi"},
    "embeddings": {"model": "embeddings", "input": "Hi"},
    "moderations": {"model": "sentiment", "input": "Hi"},
    "rerank": {"model": "sentence-similarity", "query": "Hi", "documents": ["Ho"]},
    "score": {"model": "sentence-similarity", "text_1": "Hi", "text_2": "Ho"},
}
EVERY_ROUTE = pytest.mark.parametrize("path", BODIES)


class DetailsOnly(Schema):
    """Parameters of a text-generation task with no sampling settings."""

    details: bool = False


@pytest.fixture
def router(router: FakeRouter) -> FakeRouter:
    """Return a router whose ranking model gives one score per text; other models return any output."""
    output = TASKS["sentence-similarity"].output
    router.outputs["sentence-similarity"] = lambda input_: output(similarities=[0.5] * len(input_.sentences))
    return router


# ------------------------------------------------------------------------------------------------- every task


@EVERY_TASK
def test_supported_calls_match_the_schema(http, task: Task) -> None:
    for call in dialect.supported_calls(task, task.name):
        response = http.request(call.method, call.path, json=call.body)
        assert response.status_code == 200, response.text
        response_type, event_type = RESPONSE_TYPES[call.path.removeprefix("/v1/")]
        if call.streams:
            assert response.headers["content-type"].startswith("text/event-stream")
            for event in response.text.strip().split("\n\n"):
                if event != "data: [DONE]":
                    assert_matches_schema(json.loads(event.removeprefix("data: ")), event_type.__name__)
        else:
            assert_matches_schema(response.json(), response_type.__name__)


@EVERY_TASK
def test_unsupported_calls_return_400(http, router, task: Task) -> None:
    supported = {call.path.removeprefix("/v1/") for call in dialect.supported_calls(task, task.name)}
    for path, body in BODIES.items():
        response = http.post(f"/v1/{path}", json={**body, "model": task.name})
        if path in supported:
            assert response.status_code == 200, response.text
            continue
        assert response.status_code == 400
        error = response.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert f"the model {task.name!r} performs {task.name}" in error["message"]


def test_every_route_is_supported_by_a_task() -> None:
    supported = {call.path for task in TASKS.values() for call in dialect.supported_calls(task, "it")}
    assert supported == {f"/v1/{path}" for path in BODIES}


def test_capabilities_are_decided_by_the_tasks_schemas() -> None:
    class OtherInput(Schema):
        text: Text = Field(examples=["Hi"])

    class ParamsWithoutDetails(Schema):
        max_new_tokens: int | None = None

    task = TASKS["text-generation"]
    assert COMPLETION.field(replace(task, name="other", input=OtherInput)) == "text"
    assert COMPLETION.field(replace(task, params=ParamsWithoutDetails)) is None
    assert COMPLETION.field(replace(task, output=TASKS["summarization"].output)) is None
    assert CHAT.field(replace(TASKS["conversational"], name="other")) == "messages"
    assert CHAT.field(task) is None


def test_stream_of_a_task_without_chunks_returns_400(http, monkeypatch: pytest.MonkeyPatch) -> None:
    task = replace(TASKS["text-generation"], chunk=None)
    monkeypatch.setitem(TASKS, "text-generation", task)
    assert [call.streams for call in dialect.supported_calls(task, "it")] == [False]
    response = http.post("/v1/completions", json={**BODIES["completions"], "stream": True})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "stream")


# ------------------------------------------------------------------------------------------------ every route


@EVERY_ROUTE
def test_model_id_is_in_the_path_or_the_body(http, path: str) -> None:
    body = BODIES[path]
    with_model = http.post(f"/models/{body['model']}/v1/{path}", json={**body, "model": "other"})
    without_model = http.post(
        f"/models/{body['model']}/v1/{path}", json={k: v for k, v in body.items() if k != "model"}
    )
    assert (with_model.status_code, without_model.status_code) == (200, 200)
    assert with_model.json()["model"] == without_model.json()["model"] == body["model"]


@EVERY_ROUTE
@pytest.mark.parametrize("model", [None, ""])
def test_missing_model_returns_400(http, path: str, model: str | None) -> None:
    response = http.post(f"/v1/{path}", json={**BODIES[path], "model": model})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "model"


@EVERY_ROUTE
def test_unknown_model_returns_404(http, path: str) -> None:
    for root, body in (("/v1", {**BODIES[path], "model": "org/name"}), ("/models/absent/v1", BODIES[path])):
        response = http.post(f"{root}/{path}", json=body)
        assert response.status_code == 404
        error = response.json()["error"]
        assert (error["code"], error["param"], error["type"]) == (
            "model_not_found",
            "model",
            "invalid_request_error",
        )


@EVERY_ROUTE
@pytest.mark.parametrize("content", [b"", b"hi", b"[]", b"7", b"\xff", b'{"model": ', b'{"model": 7}'])
def test_invalid_body_returns_400(http, path: str, content: bytes) -> None:
    response = http.post(f"/v1/{path}", content=content)
    assert response.status_code == 400
    assert_matches_schema(response.json(), "OpenAIFailure")


@EVERY_ROUTE
def test_body_of_a_million_lists_returns_413(http, path: str) -> None:
    response = http.post(f"/v1/{path}", content=b"[" * (MAX_ELEMENTS + 1))
    assert (response.status_code, "lists and objects" in response.text) == (413, True)
    assert_matches_schema(response.json(), "OpenAIFailure")


@EVERY_ROUTE
@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (None, 200),
        ("application/json; charset=utf-8", 200),
        ("text/plain", 200),
        ("application/x-www-form-urlencoded", 200),
        ("image/png", 415),
        ("Multipart/form-data; boundary=x", 415),
    ],
)
def test_content_types(http, path: str, content_type: str | None, status: int) -> None:
    content = httpx.Request("POST", "http://gateway", json=BODIES[path]).content
    headers = {"content-type": content_type} if content_type else {}
    response = http.post(f"/v1/{path}", content=content, headers=headers)
    assert response.status_code == status, response.text
    if status != 200:
        assert_matches_schema(response.json(), "OpenAIFailure")


@EVERY_ROUTE
def test_api_key_is_ignored(http, path: str) -> None:
    for authorization in ("Bearer sk-any", "Basic x", "nonsense"):
        assert (
            http.post(f"/v1/{path}", json=BODIES[path], headers={"authorization": authorization}).status_code
            == 200
        )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@EVERY_ROUTE
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_fields_never_return_500(http, path: str, data: st.DataObject) -> None:
    operation = next(operation for operation in dialect.operations() if operation.path == f"/v1/{path}")
    names = st.sampled_from([*operation.body.model_fields])  # type: ignore[union-attr]
    body = (
        BODIES[path] | data.draw(st.dictionaries(names, JSON, max_size=3)) | {"model": BODIES[path]["model"]}
    )
    content = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    response = http.post(f"/v1/{path}", content=content)
    assert response.status_code in (200, 400, 413), response.text


@pytest.mark.parametrize(
    ("path", "body", "task_params", "param"),
    [
        ("embeddings", {"dimensions": 2}, Schema, "dimensions"),
        ("chat/completions", {"logprobs": True, "top_logprobs": 2}, DetailsOnly, "top_logprobs"),
        ("completions", {"max_tokens": 2}, DetailsOnly, "max_tokens"),
        ("responses", {"max_output_tokens": 2, "top_p": 0.5}, DetailsOnly, "top_p"),
    ],
)
def test_setting_that_the_task_lacks_is_named_as_in_the_request(
    http, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any], task_params: Any, param: str
) -> None:
    model = BODIES[path]["model"]
    monkeypatch.setitem(TASKS, model, replace(TASKS[model], params=task_params, dialect_params={}))
    response = http.post(f"/v1/{path}", json={**BODIES[path], **body})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert f"`{param}`: Extra inputs are not permitted" in error["message"]


def test_routes_do_not_collide_with_other_dialects() -> None:
    web.build(FakeRouter(), DIALECTS)  # type: ignore[arg-type]
