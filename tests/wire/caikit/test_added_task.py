"""A task whose words Caikit has no names for is spoken with its own schemas."""

import base64
from typing import Any

import httpx
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from pydantic import Field
from starlette.applications import Starlette

from deployments.card import Card
from deployments.dialects import caikit
from deployments.gateway import http_app as web
from deployments.reference.protos import documents
from deployments.schema import Label, Mask, Schema, Text, Texts
from deployments.task import TASKS, Task
from deployments.wire.caikit.rpcs import methods, rpcs
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
    return Task(name, "A tenth task.", input_, AnswerParams, output, None, name)


ANSWER = task("question-answering", AnswerInput, AnswerOutput)
CHOOSE = task("zero-shot", ChooseInput, ChooseOutput)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeRouter, Starlette]:
    """An application that is built once the tasks are there, and a router with a model of one of them."""
    monkeypatch.setitem(TASKS, ANSWER.name, ANSWER)
    monkeypatch.setitem(TASKS, CHOOSE.name, CHOOSE)
    router = FakeRouter()
    router.cards["qa"] = Card(id="qa", state="ready", task=ANSWER.name)
    router.outputs["qa"] = lambda asked: AnswerOutput(answer=asked.context, score=0.5, drawing=b"\xff\x00")
    return router, web.build(router, [caikit.dialect])


@pytest.fixture
def router(served: tuple[FakeRouter, Starlette]) -> FakeRouter:
    return served[0]


def test_its_messages(router: FakeRouter) -> None:
    pool = DescriptorPool()
    rpcs(pool)
    texts = documents(["caikit.runtime.Runtime.RuntimeService"], pool)
    requests, answers = texts["caikit.runtime.Runtime.proto"], texts["caikit_data_model.proto"]
    assert "rpc QuestionAnsweringTaskPredict" in requests
    assert fields(requests, "QuestionAnsweringTaskRequest") == ["string question = 1;", "string context = 2;"]
    assert fields(requests, "ZeroShotTaskRequest") == [
        "string text_in = 1;",
        "repeated string candidates = 2;",
    ]
    assert fields(answers, "AnswerOutput") == [
        "string answer = 1;",
        "double score = 2;",
        "bytes drawing = 3;",
    ]


def fields(text: str, message: str) -> list[str]:
    _, _, rest = text.partition(f"message {message} {{\n")
    return [line.strip() for line in rest.partition("}")[0].splitlines()]


async def test_its_rpc(router: FakeRouter) -> None:
    pool = DescriptorPool()
    (method,) = [method for method in methods(pool) if method.name == "QuestionAnsweringTaskPredict"]
    raw = method.request(question="Who?", context="Anna.").SerializeToString()
    answer = method.answer.FromString(await method.rpc().call(router, raw, {"mm-model-id": "qa"}))
    assert (answer.answer, answer.score, answer.drawing) == ("Anna.", 0.5, b"\xff\x00")


async def ask(http: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await http.post("/api/v1/task/question-answering", json={"model_id": "qa", **body})


async def test_its_route(http: httpx.AsyncClient) -> None:
    response = await ask(http, inputs={"question": "Who?", "context": "Anna."})
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
        ("Who?", 422, "should be an object"),
    ],
)
async def test_its_errors(http: httpx.AsyncClient, inputs: Any, status: int, details: str) -> None:
    response = await ask(http, inputs=inputs)
    assert response.status_code == status
    assert details in response.json()["details"]


async def test_a_form_for_it(http: httpx.AsyncClient) -> None:
    fields = {"model_id": "qa", "inputs.question": "Who?", "inputs.context": "Anna.", "parameters.top_k": "2"}
    files = [(name, (None, value)) for name, value in fields.items()]
    response = await http.post("/api/v1/task/question-answering", files=files)
    assert response.json()["answer"] == "Anna."
