"""A task whose types Caikit has no names for uses its own schemas."""

import base64
from typing import Any

import httpx
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from pydantic import Field
from starlette.applications import Starlette

from deployments.card import Card
from deployments.dialects import caikit
from deployments.gateway import http_app
from deployments.reference.protos import documents
from deployments.schema import Label, Mask, Schema, Text, Texts
from deployments.task import TASKS, Task
from deployments.wire.caikit.rpcs import rpcs, typed_rpcs
from tests.fake_router import FakeRouter


class AnswerInput(Schema):
    question: Text
    context: Text
    hint: Text | None = None


class AnswerParams(Schema):
    top_k: int = Field(1, ge=1)


class AnswerOutput(Schema):
    answer: str
    score: float
    drawing: Mask


class ChooseInput(Schema):
    text: Text
    candidates: Texts


class ChooseOutput(Schema):
    labels: list[Label]


def task(name: str, *schemas: type[Schema]) -> Task:
    input_, output = schemas
    return Task(name, "An added task.", input_, AnswerParams, output, None, name)


ANSWER = task("question-answering", AnswerInput, AnswerOutput)
CHOOSE = task("zero-shot", ChooseInput, ChooseOutput)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeRouter, Starlette]:
    """Return a router with a model of an added task, and the application with both added tasks."""
    monkeypatch.setitem(TASKS, ANSWER.name, ANSWER)
    monkeypatch.setitem(TASKS, CHOOSE.name, CHOOSE)
    router = FakeRouter()
    router.cards["qa"] = Card(id="qa", state="ready", task=ANSWER.name)
    router.outputs["qa"] = lambda input: AnswerOutput(answer=input.context, score=0.5, drawing=b"\xff\x00")
    return router, http_app.build(router, [caikit.dialect])


@pytest.fixture
def router(served: tuple[FakeRouter, Starlette]) -> FakeRouter:
    return served[0]


def test_added_task_has_messages(router: FakeRouter) -> None:
    pool = DescriptorPool()
    rpcs(pool)
    texts = documents(["caikit.runtime.Runtime.RuntimeService"], pool)
    requests, responses = texts["caikit.runtime.Runtime.proto"], texts["caikit_data_model.proto"]
    assert "rpc QuestionAnsweringTaskPredict" in requests
    assert fields(requests, "QuestionAnsweringTaskRequest") == ["string question = 1;", "string context = 2;"]
    assert fields(requests, "ZeroShotTaskRequest") == [
        "string text_in = 1;",
        "repeated string candidates = 2;",
    ]
    assert fields(responses, "AnswerOutput") == [
        "string answer = 1;",
        "double score = 2;",
        "bytes drawing = 3;",
    ]


def fields(text: str, message: str) -> list[str]:
    _, _, rest = text.partition(f"message {message} {{\n")
    return [line.strip() for line in rest.partition("}")[0].splitlines()]


async def test_added_task_has_rpc(router: FakeRouter) -> None:
    pool = DescriptorPool()
    (rpc,) = [rpc for rpc in typed_rpcs(pool) if rpc.name == "QuestionAnsweringTaskPredict"]
    raw = rpc.request(question="Who?", context="Anna.").SerializeToString()
    response = rpc.response.FromString(await rpc.raw().call(router, raw, {"mm-model-id": "qa"}))
    assert (response.answer, response.score, response.drawing) == ("Anna.", 0.5, b"\xff\x00")


async def post_task(http: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await http.post("/api/v1/task/question-answering", json={"model_id": "qa", **body})


async def test_added_task_has_route(http: httpx.AsyncClient) -> None:
    response = await post_task(http, inputs={"question": "Who?", "context": "Anna."})
    assert response.json() == {
        "answer": "Anna.",
        "score": 0.5,
        "drawing": base64.b64encode(b"\xff\x00").decode(),
    }


@pytest.mark.parametrize(
    ("inputs", "status", "details"),
    [
        ({"question": "Who?", "context": ""}, 400, "missing 1 required positional argument: 'context'"),
        ({"question": "Who?"}, 422, "Field required"),
        ({"question": "Who?", "context": "Anna.", "colour": "red"}, 422, "Extra inputs are not permitted"),
        ("Who?", 422, "should be an object"),
    ],
)
async def test_missing_wrong_or_unknown_argument_is_reported(
    http: httpx.AsyncClient, inputs: Any, status: int, details: str
) -> None:
    response = await post_task(http, inputs=inputs)
    assert response.status_code == status
    assert details in response.json()["details"]


async def test_form_with_fields_of_added_task(http: httpx.AsyncClient) -> None:
    fields = {"model_id": "qa", "inputs.question": "Who?", "inputs.context": "Anna.", "parameters.top_k": "2"}
    files = [(name, (None, value)) for name, value in fields.items()]
    response = await http.post("/api/v1/task/question-answering", files=files)
    assert response.json()["answer"] == "Anna."
