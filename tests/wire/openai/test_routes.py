"""The OpenAI dialect as a whole: every route, every model, every kind of error."""

import json
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import OpenAI
from pydantic import Field

from deployments import errors
from deployments.dialects import DIALECTS
from deployments.dialects.openai import dialect
from deployments.errors import InferenceError, ModelNotFound, ModelNotReady, Overloaded
from deployments.gateway import http_app as web
from deployments.schema import Schema, Text
from deployments.task import TASKS, Task
from deployments.wire.http import MAX_ELEMENTS
from deployments.wire.openai.completions import COMPLETION
from deployments.wire.openai.messages import CHAT
from tests.fake_router import FakeRouter
from tests.wire.openai.openai_outputs import always, conforms

EVERY_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
ANSWERS = {
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


class Plain(Schema):
    """Parameters of a task that tells how a text came about, and has no other setting."""

    details: bool = False


@pytest.fixture
def router(router: FakeRouter) -> FakeRouter:
    """Its models answer with anything; but texts are compared one by one."""
    output = TASKS["sentence-similarity"].output
    router.outputs["sentence-similarity"] = lambda input_: output(similarities=[0.5] * len(input_.sentences))
    return router


# ------------------------------------------------------------------------------------------------- every task


@EVERY_TASK
def test_every_offer_is_answered_as_documented(http, task: Task) -> None:
    for offer in dialect.supported_calls(task, task.name):
        answered = http.request(offer.method, offer.path, json=offer.body)
        assert answered.status_code == 200, answered.text
        answer, event = ANSWERS[offer.path.removeprefix("/v1/")]
        if offer.streams:
            assert answered.headers["content-type"].startswith("text/event-stream")
            for line in answered.text.strip().split("\n\n"):
                if line != "data: [DONE]":
                    conforms(httpx.Response(200, text=line.removeprefix("data: ")).json(), event.__name__)
        else:
            conforms(answered.json(), answer.__name__)


@EVERY_TASK
def test_what_is_not_offered_is_refused(http, router, task: Task) -> None:
    offered = {offer.path.removeprefix("/v1/") for offer in dialect.supported_calls(task, task.name)}
    for path, body in BODIES.items():
        answered = http.post(f"/v1/{path}", json={**body, "model": task.name})
        if path in offered:
            assert answered.status_code == 200, answered.text
            continue
        assert answered.status_code == 400
        error = answered.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert f"the model {task.name!r} performs {task.name}" in error["message"]


def test_every_route_is_offered_by_some_task() -> None:
    offered = {offer.path for task in TASKS.values() for offer in dialect.supported_calls(task, "it")}
    assert offered == {f"/v1/{path}" for path in BODIES}


def test_what_a_model_can_is_read_off_its_tasks_schemas() -> None:
    class Told(Schema):
        text: Text = Field(examples=["Hi"])

    class Curt(Schema):
        max_new_tokens: int | None = None

    spoken = TASKS["text-generation"]
    assert COMPLETION.field(replace(spoken, name="telling", input=Told)) == "text"
    assert COMPLETION.field(replace(spoken, params=Curt)) is None
    assert COMPLETION.field(replace(spoken, output=TASKS["summarization"].output)) is None
    assert CHAT.field(replace(TASKS["conversational"], name="talking")) == "messages"
    assert CHAT.field(spoken) is None


def test_an_answer_that_cannot_stream(http, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = replace(TASKS["text-generation"], chunk=None)
    monkeypatch.setitem(TASKS, "text-generation", whole)
    assert [offer.streams for offer in dialect.supported_calls(whole, "it")] == [False]
    answered = http.post("/v1/completions", json={**BODIES["completions"], "stream": True})
    assert (answered.status_code, answered.json()["error"]["param"]) == (400, "stream")


# ------------------------------------------------------------------------------------------------ every route


@EVERY_ROUTE
def test_a_model_is_named_by_the_path_or_the_body(http, path: str) -> None:
    body = BODIES[path]
    named = http.post(f"/models/{body['model']}/v1/{path}", json={**body, "model": "whoever"})
    unnamed = http.post(
        f"/models/{body['model']}/v1/{path}", json={k: v for k, v in body.items() if k != "model"}
    )
    assert (named.status_code, unnamed.status_code) == (200, 200)
    assert named.json()["model"] == unnamed.json()["model"] == body["model"]


@EVERY_ROUTE
@pytest.mark.parametrize("model", [None, ""])
def test_without_a_model_nobody_is_asked(http, path: str, model: str | None) -> None:
    answered = http.post(f"/v1/{path}", json={**BODIES[path], "model": model})
    assert answered.status_code == 400
    assert answered.json()["error"]["param"] == "model"


@EVERY_ROUTE
def test_an_unknown_model_is_404(http, path: str) -> None:
    for root, body in (("/v1", {**BODIES[path], "model": "org/name"}), ("/models/nobody/v1", BODIES[path])):
        answered = http.post(f"{root}/{path}", json=body)
        assert answered.status_code == 404
        error = answered.json()["error"]
        assert (error["code"], error["param"], error["type"]) == (
            "model_not_found",
            "model",
            "invalid_request_error",
        )


@EVERY_ROUTE
@pytest.mark.parametrize("content", [b"", b"hi", b"[]", b"7", b"\xff", b'{"model": ', b'{"model": 7}'])
def test_a_wrong_body_is_400(http, path: str, content: bytes) -> None:
    answered = http.post(f"/v1/{path}", content=content)
    assert answered.status_code == 400
    conforms(answered.json(), "OpenAIFailure")


@EVERY_ROUTE
def test_a_body_of_a_million_lists_is_413(http, path: str) -> None:
    answered = http.post(f"/v1/{path}", content=b"[" * (MAX_ELEMENTS + 1))
    assert (answered.status_code, "lists and objects" in answered.text) == (413, True)
    conforms(answered.json(), "OpenAIFailure")


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
def test_whatever_may_be_json_is_read_as_such(http, path: str, content_type: str | None, status: int) -> None:
    content = httpx.Request("POST", "http://door", json=BODIES[path]).content
    headers = {"content-type": content_type} if content_type else {}
    answered = http.post(f"/v1/{path}", content=content, headers=headers)
    assert answered.status_code == status, answered.text
    if status != 200:
        conforms(answered.json(), "OpenAIFailure")


@EVERY_ROUTE
def test_a_key_is_not_looked_at(http, path: str) -> None:
    for key in ("Bearer sk-any", "Basic x", "nonsense"):
        assert http.post(f"/v1/{path}", json=BODIES[path], headers={"authorization": key}).status_code == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@EVERY_ROUTE
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_json_surprises(http, path: str, data: st.DataObject) -> None:
    operation = next(one for one in dialect.operations() if one.path == f"/v1/{path}")
    names = st.sampled_from([*operation.body.model_fields])  # type: ignore[union-attr]
    body = (
        BODIES[path] | data.draw(st.dictionaries(names, JSON, max_size=3)) | {"model": BODIES[path]["model"]}
    )
    content = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    answered = http.post(f"/v1/{path}", content=content)
    assert answered.status_code in (200, 400, 413), answered.text


# ------------------------------------------------------------------------------------------------ every error


@pytest.mark.parametrize(
    ("kind", "status", "type_", "code", "error_class"),
    [
        ("invalid", 400, "invalid_request_error", None, openai.BadRequestError),
        ("unauthorized", 401, "authentication_error", "invalid_api_key", openai.AuthenticationError),
        ("forbidden", 403, "permission_error", None, openai.PermissionDeniedError),
        ("not_found", 404, "invalid_request_error", "model_not_found", openai.NotFoundError),
        ("too_large", 413, "invalid_request_error", None, openai.APIStatusError),
        ("overloaded", 429, "rate_limit_error", "rate_limit_exceeded", openai.RateLimitError),
        ("unavailable", 503, "server_error", "model_not_ready", openai.InternalServerError),
        ("timeout", 504, "server_error", "timeout", openai.InternalServerError),
        ("internal", 500, "server_error", None, openai.InternalServerError),
    ],
)
def test_errors(
    client, router, kind: str, status: int, type_: str, code: str | None, error_class: Any
) -> None:
    error = next(
        one
        for one in vars(errors).values()
        if isinstance(one, type)
        and issubclass(one, InferenceError)
        and one.kind == kind
        and one is not InferenceError
    )
    router.outputs["embeddings"] = always(error("not today"))
    with pytest.raises(error_class, match="not today") as told:
        client.embeddings.create(model="embeddings", input="a")
    assert told.value.status_code == status
    assert (told.value.type, told.value.code) == (type_, code)
    assert told.value.param == ("model" if error is ModelNotFound else None)
    assert told.value.response.headers.get("retry-after") == {"overloaded": "1", "unavailable": "2"}.get(kind)
    assert (told.value.response.headers.get("x-should-retry") == "false") == (kind == "internal")
    conforms({"error": told.value.body}, "OpenAIFailure")


@pytest.mark.parametrize(
    ("path", "body", "task_params", "param"),
    [
        ("embeddings", {"dimensions": 2}, Schema, "dimensions"),
        ("chat/completions", {"logprobs": True, "top_logprobs": 2}, Plain, "top_logprobs"),
        ("completions", {"max_tokens": 2}, Plain, "max_tokens"),
        ("responses", {"max_output_tokens": 2, "top_p": 0.5}, Plain, "top_p"),
    ],
)
def test_a_setting_that_the_task_has_not_is_named_as_the_caller_wrote_it(
    http, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any], task_params: Any, param: str
) -> None:
    model = BODIES[path]["model"]
    monkeypatch.setitem(TASKS, model, replace(TASKS[model], params=task_params, dialect_params={}))
    answered = http.post(f"/v1/{path}", json={**BODIES[path], **body})
    assert answered.status_code == 400, answered.text
    error = answered.json()["error"]
    assert error["param"] == param
    assert f"`{param}`: Extra inputs are not permitted" in error["message"]


def test_what_is_quoted_in_a_sentence_is_not_taken_for_a_field(client, router) -> None:
    router.outputs["embeddings"] = always(ModelNotReady("`engine.name` is vllm, which is not installed"))
    with pytest.raises(openai.InternalServerError, match="is not installed") as late:
        client.embeddings.create(model="embeddings", input="a")
    assert late.value.param is None


@pytest.mark.parametrize(
    ("failure", "tries"), [(ValueError("secret"), 1), (Overloaded("full", retry_after=0.01), 2)]
)
def test_clients_try_again_where_it_may_help(url, router, failure: Exception, tries: int) -> None:
    router.outputs["embeddings"] = always(failure)
    with (
        OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=1) as client,
        pytest.raises(openai.APIStatusError) as told,
    ):
        client.embeddings.create(model="embeddings", input="a")
    assert len(router.asked) == tries
    assert "secret" not in str(told.value.body)


# ----------------------------------------------------------------------------------------------------- models


def test_models(client, router) -> None:
    told = {model.id: model for model in client.models.list()}
    assert {*told} == {card.id for card in router.cards.values() if card.state != "unavailable"}
    assert "loading" in told
    assert told["sentiment"].to_dict() == {
        "id": "sentiment",
        "object": "model",
        "created": 0,
        "owned_by": "example",
    }
    assert told["loading"].owned_by == "roster"


def test_one_model(client, http, router) -> None:
    assert client.models.retrieve("sentiment").id == "sentiment"
    assert client.models.retrieve("loading").id == "loading"
    conforms(http.get("/v1/models").json(), "OpenAIModels")
    conforms(http.get("/v1/models/sentiment").json(), "OpenAIModel")
    with pytest.raises(openai.InternalServerError, match=r"models/broken/config\.yml: no") as broken:
        client.models.retrieve("broken")
    assert broken.value.status_code == 503


@pytest.mark.parametrize("name", ["nobody", "org/nobody"])
def test_a_name_that_no_model_has(client, name: str) -> None:
    with pytest.raises(openai.NotFoundError, match="no model is named") as unknown:
        client.models.retrieve(name)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")


def test_a_models_own_path_shows_it_alone(url, router) -> None:
    with OpenAI(base_url=f"{url}/models/sentiment/v1", api_key="any", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["sentiment"]
        assert client.models.retrieve("whatever").id == "sentiment"
        assert client.models.retrieve("org/whatever").id == "sentiment"
    with (
        OpenAI(base_url=f"{url}/models/nobody/v1", api_key="any", max_retries=0) as client,
        pytest.raises(openai.NotFoundError),
    ):
        client.models.list()


def test_a_model_that_is_not_ready(client) -> None:
    with pytest.raises(openai.InternalServerError) as late:
        client.embeddings.create(model="broken", input="a")
    assert (late.value.status_code, late.value.code) == (503, "model_not_ready")


def test_no_other_dialect_has_these_routes() -> None:
    web.build(FakeRouter(), DIALECTS)  # type: ignore[arg-type]
