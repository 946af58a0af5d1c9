"""The Hugging Face dialect, judged by the Hub's own client and, for every task, by its OpenAPI document."""

import asyncio
import base64
import json
import time
from typing import Any

import httpx
import jsonschema
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import (
    GenerationError,
    HfHubHTTPError,
    IncompleteGenerationError,
    OverloadedError,
)
from huggingface_hub.errors import ValidationError as HubValidationError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.dialects.huggingface import dialect
from deployments.errors import Forbidden, InvalidInput, Overloaded, TimedOut, TooLarge
from deployments.gateway import http_app as web
from deployments.gateway.openapi import document
from deployments.routing.validation import RequestValidator
from deployments.schema import MAX_ITEMS, Label, field_types
from deployments.task import TASKS, Task
from tests.fake_router import PICTURE, FakeRouter, fetching, sample

EVERY_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
PICTURE_TASKS = [task for task in TASKS.values() if [*field_types(task.input).values()] == ["image"]]
EVERY_PICTURE_TASK = pytest.mark.parametrize("task", PICTURE_TASKS, ids=[task.name for task in PICTURE_TASKS])
STREAMING = [task for task in TASKS.values() if task.chunk]


@pytest.fixture(scope="module")
def conforms() -> Any:
    """Checks an answer against a schema of the OpenAPI document."""
    components = document([dialect])["components"]

    def check(answer: Any, name: str) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": components}
        jsonschema.validate(answer, schema, cls=jsonschema.Draft202012Validator)

    return check


def plain(output: Any) -> Any:
    return json.loads(output.model_dump_json())


# ----------------------------------------------------------------------------------- every task, generically


@EVERY_TASK
async def test_a_lone_example_is_answered_as_documented(http, conforms, task: Task) -> None:
    for example in task.examples():
        request = {"inputs": example, "parameters": {}}
        conforms(request, f"HuggingFace{task.title}Request")
        answered = await http.post(f"/models/{task.name}", json=request)
        assert answered.status_code == 200, answered.text
        conforms(answered.json(), f"HuggingFace{task.title}Answer")
        conforms(answered.json(), "HuggingFaceAnswer")


@EVERY_TASK
async def test_a_bare_value_means_the_same(http, router, conforms, task: Task) -> None:
    example = task.examples()[0]
    if len(example) == 1:
        (bare,) = example.values()
        conforms({"inputs": bare}, f"HuggingFace{task.title}Request")
        named = await http.post(f"/models/{task.name}", json={"inputs": example})
        answered = await http.post(f"/models/{task.name}", json={"inputs": bare})
        assert answered.json() == named.json()
        assert router.asked[0] == router.asked[1]


@EVERY_TASK
async def test_a_batch_is_answered_item_by_item(http, router, conforms, task: Task) -> None:
    request = {"inputs": [task.examples()[0], task.examples()[0]]}
    conforms(request, f"HuggingFace{task.title}Request")
    batch = (await http.post(f"/models/{task.name}", json=request)).json()
    conforms(batch, f"HuggingFace{task.title}Answer")
    lone = (await http.post(f"/models/{task.name}", json={"inputs": task.examples()[0]})).json()
    assert batch == [lone[0] if task.single_output_in_list else lone] * 2
    assert len(router.asked[0][1]) == 2


@EVERY_TASK
async def test_in_a_batch_a_failed_item_fails_alone(http, router, conforms, task: Task) -> None:
    answers = iter([InvalidInput("not this one"), sample(task.output)])
    router.outputs[task.name] = lambda _: next(answers)
    answered = await http.post(f"/models/{task.name}", json={"inputs": [task.examples()[0]] * 2})
    assert answered.status_code == 200
    assert answered.json()[0] == {"error": "not this one", "error_type": "validation"}
    conforms(answered.json(), f"HuggingFace{task.title}Answer")


@EVERY_TASK
async def test_a_lone_failure_is_the_requests(http, router, task: Task) -> None:
    router.outputs[task.name] = lambda _: Overloaded("full", retry_after=3)
    answered = await http.post(f"/models/{task.name}", json={"inputs": task.examples()[0]})
    assert answered.status_code == 429
    assert answered.json() == {"error": "full", "error_type": "overloaded"}
    assert answered.headers["retry-after"] == "3"


@EVERY_TASK
async def test_every_route_and_name_performs_it(http, task: Task) -> None:
    expected = await http.post(f"/models/{task.name}", json={"inputs": task.examples()[0]})
    for name in task.names:
        for path in (f"/models/{task.name}/pipeline/{name}", f"/pipeline/{name}/{task.name}"):
            answered = await http.post(path, json={"inputs": task.examples()[0]})
            assert answered.status_code == 200, path
            assert answered.json() == expected.json()


@EVERY_TASK
async def test_another_task_is_a_mismatch(http, router, task: Task) -> None:
    for name in {name for other in TASKS.values() for name in other.names} - {*task.names} | {"juggling"}:
        answered = await http.post(f"/models/{task.name}/pipeline/{name}", json={"inputs": "hi"})
        assert answered.status_code == 422
        assert repr(name) in answered.json()["error"]
    assert not router.asked


@EVERY_TASK
async def test_more_items_than_the_limit_are_refused(http, router, task: Task) -> None:
    answered = await http.post(
        f"/models/{task.name}", json={"inputs": [task.examples()[0]] * (MAX_ITEMS + 1)}
    )
    assert answered.status_code == 413
    assert not router.asked


@EVERY_TASK
async def test_an_unknown_parameter_is_named(http, task: Task) -> None:
    body = {"inputs": task.examples()[0], "parameters": {"colour": "red"}}
    answered = await http.post(f"/models/{task.name}", json=body)
    assert answered.status_code == 422
    assert "colour" in answered.json()["error"]


@EVERY_TASK
async def test_streaming(http, router, conforms, task: Task) -> None:
    answered = await http.post(f"/models/{task.name}", json={"inputs": task.examples()[0], "stream": True})
    if task.chunk is None:
        assert answered.status_code == 422
        assert "stream" in answered.json()["error"]
        return
    assert answered.headers["content-type"].startswith("text/event-stream")
    (event,) = answered.text.strip().split("\n\n")
    chunk = json.loads(event.removeprefix("data: "))
    assert chunk == plain(sample(task.chunk))
    conforms(chunk, task.chunk.__name__)
    assert router.closed == [task.name]


@EVERY_PICTURE_TASK
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "image/png"},
        {"content-type": "application/octet-stream"},
        {"content-type": "application/x-www-form-urlencoded"},
    ],
    ids=str,
)
async def test_a_raw_body_is_the_picture(http, router, task: Task, headers: dict[str, str]) -> None:
    answered = await http.post(f"/models/{task.name}", content=PICTURE, headers=headers)
    assert answered.status_code == 200, answered.text
    (picture,) = field_types(task.input)
    assert getattr(router.asked[0][1][0], picture) == PICTURE


@EVERY_PICTURE_TASK
async def test_no_picture_is_told_so(http, task: Task) -> None:
    answered = await http.post(f"/models/{task.name}", content=b"GIF89a, or not", headers={})
    assert answered.status_code == 422
    assert "not an image" in answered.json()["error"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@EVERY_TASK
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_json_surprises(http, task: Task, data: st.DataObject) -> None:
    names = st.sampled_from([*task.input.model_fields, *task.params.model_fields, "role", "content"])
    value = JSON | st.dictionaries(names, JSON, max_size=3)
    body = {"inputs": data.draw(value | st.lists(value, max_size=3)), "parameters": data.draw(value)}
    answered = await http.post(f"/models/{task.name}", json=body)
    assert answered.status_code in (200, 413, 422), answered.text


# ---------------------------------------------------------------------------------------------------- bodies


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
async def test_json_under_many_names(http, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answered = await http.post("/models/sentiment", content=b' {"inputs": "hi"}', headers=headers)
    assert answered.status_code == 200, answered.text


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml", "multipart/form-data", "image/png"]
)
async def test_a_wrong_content_type_is_415(http, content_type: str) -> None:
    headers = {"content-type": content_type}
    answered = await http.post("/models/sentiment", content=b'{"inputs": "hi"}', headers=headers)
    assert answered.status_code == 415
    assert repr(content_type) in answered.json()["error"]
    assert answered.json()["error_type"] == "validation"


@pytest.mark.parametrize(
    ("body", "told"),
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
        (b'{"inputs": "hi", "colour": "red"}', "colour"),
        (b'{"inputs": "hi", "encoding_format": "base64"}', "encoding_format"),
        (b"\xff\xfe", "Invalid JSON"),
    ],
)
async def test_a_wrong_body_is_told(http, body: bytes, told: str) -> None:
    answered = await http.post("/models/sentiment", content=body)
    assert answered.status_code == 422
    assert told in answered.json()["error"]
    assert answered.headers["x-error-message"].isascii()


async def test_what_says_nothing_is_dropped(http, router) -> None:
    body = {
        "inputs": "hi",
        "parameters": {"top_k": None},
        "options": {"use_cache": False, "wait_for_model": True},
        "stream": False,
        "encoding_format": "float",
        "function_to_apply": None,
    }
    assert (await http.post("/models/sentiment", json=body)).status_code == 200
    assert router.asked[0][2] == TASKS["sentiment"].params()


async def test_parameters_may_stand_at_the_root(http, router) -> None:
    assert (await http.post("/models/sentiment", json={"inputs": "hi", "top_k": 2})).status_code == 200
    assert router.asked[0][2].top_k == 2


async def test_an_unreadable_item_fails_alone(http, router) -> None:
    answered = await http.post("/models/sentiment", json={"inputs": ["good", "", "better"]})
    first, second, third = answered.json()
    assert first == third == [{"label": "word", "score": 0.5}] * 2
    assert second == {"error": "the text is empty", "error_type": "validation"}
    assert [item.text for item in router.asked[0][1]] == ["good", "better"]


async def test_each_url_is_fetched_once(http, router) -> None:
    fetcher, asked = fetching(lambda path: httpx.Response(404 if path == "/3" else 200, content=PICTURE))
    router.validator = RequestValidator(fetcher)
    urls = [f"https://allowed.example/{place}" for place in range(16)]
    answered = await http.post("/models/image-classification", json={"inputs": urls})
    assert [place for place, told in enumerate(answered.json()) if "error" in told] == [3]
    assert sorted(asked) == sorted(f"/{place}" for place in range(16))


async def test_more_urls_than_the_limit_are_not_fetched(http, router) -> None:
    fetcher, asked = fetching(lambda path: httpx.Response(200, content=PICTURE))
    router.validator = RequestValidator(fetcher)
    body = {"inputs": ["https://allowed.example/"] * 17}
    answered = await http.post("/models/image-classification", json=body)
    assert (answered.status_code, answered.json()["error_type"]) == (413, "validation")
    assert not asked


async def test_a_batch_without_any_answer_is_an_error(http, router) -> None:
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
async def test_what_is_one_conversation(http, router, inputs: Any, turns: list[int]) -> None:
    answered = await http.post("/models/conversational", json={"inputs": inputs})
    assert answered.status_code == 200, answered.text
    assert [len(item.messages) for item in router.asked[0][1]] == turns


@pytest.mark.parametrize(
    ("inputs", "sentences"),
    [
        ({"source_sentence": "a", "sentences": ["b", "c"]}, [["b", "c"]]),
        (["b", "c"], [["b", "c"]]),
        ([["b"], ["c"]], [["b"], ["c"]]),
        ([{"sentences": ["b"]}, {"source_sentence": "a", "sentences": ["c"]}], [["b"], ["c"]]),
    ],
)
async def test_what_is_one_list_of_sentences(http, router, inputs: Any, sentences: Any) -> None:
    answered = await http.post("/models/sentence-similarity", json={"inputs": inputs})
    assert answered.status_code == 200, answered.text
    assert [item.sentences for item in router.asked[0][1]] == sentences


# --------------------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("task", STREAMING, ids=lambda task: task.name)
async def test_a_stream_takes_one_input(http, task: Task) -> None:
    body = {"inputs": [task.examples()[0]], "stream": True}
    answered = await http.post(f"/models/{task.name}", json=body)
    assert answered.status_code == 422
    assert "lone" in answered.json()["error"]


async def test_an_error_before_the_first_chunk_has_its_status(http, router) -> None:
    async def chunks(_: Any) -> Any:
        raise Overloaded("full")
        yield

    router.streams["text-generation"] = chunks
    answered = await http.post("/models/text-generation", json={"inputs": "hi", "stream": True})
    assert answered.status_code == 429
    assert answered.json() == {"error": "full", "error_type": "overloaded"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Overloaded("full"), {"error": "full", "error_type": "overloaded"}),
        (ValueError("secret"), {"error": "internal error, request id 17", "error_type": "generation"}),
    ],
)
async def test_a_later_error_is_an_event(http, router, error: Exception, told: dict[str, str]) -> None:
    async def chunks(_: Any) -> Any:
        yield sample(TASKS["text-generation"].chunk)
        raise error

    router.streams["text-generation"] = chunks
    body = {"inputs": "hi", "stream": True}
    answered = await http.post("/models/text-generation", json=body, headers={"x-request-id": "17"})
    assert answered.status_code == 200
    assert json.loads(answered.text.strip().split("\n\n")[-1].removeprefix("data: ")) == told


@pytest.mark.parametrize("told_before", [0, 1, 2])
async def test_a_caller_who_leaves_ends_the_work(router, served, told_before: int) -> None:
    async def chunks(_: Any) -> Any:
        for _index in range(told_before):
            yield sample(TASKS["text-generation"].chunk)
        await asyncio.sleep(60)

    router.streams["text-generation"] = chunks
    body = json.dumps({"inputs": "hi", "stream": True}).encode()
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": body, "more_body": False})
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/models/text-generation", "headers": []}
    serving = asyncio.create_task(served[1](scope, messages.get, send))
    for _ in range(50):
        await asyncio.sleep(0)
    assert len([m for m in sent if m.get("body")]) == told_before
    assert not router.closed
    messages.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(serving, 1)
    assert router.closed == ["text-generation"]


# ---------------------------------------------------------------------------------------------------- models


async def test_models_are_listed(http, router, conforms) -> None:
    cards = (await http.get("/models")).json()
    conforms(cards, "Cards")
    assert [card["id"] for card in cards] == list(router.cards)


async def test_a_model_shows_itself(http, router, conforms) -> None:
    card = (await http.get("/models/sentiment")).json()
    conforms(card, "Card")
    assert card == plain(router.cards["sentiment"])


@EVERY_TASK
async def test_info(http, conforms, task: Task) -> None:
    info = (await http.get(f"/models/{task.name}/info")).json()
    conforms(info, "Info")
    assert info["model_id"] == f"example/{task.name}"
    assert info["model_pipeline_tag"] == task.pipeline_tag
    assert info["model_dtype"] == "float32"
    assert info["max_client_batch_size"] == MAX_ITEMS


@pytest.mark.parametrize("model_id", ["loading", "broken"])
async def test_info_of_what_is_not_loaded(http, conforms, model_id: str) -> None:
    info = (await http.get(f"/models/{model_id}/info")).json()
    conforms(info, "Info")
    assert info["model_dtype"] is None


async def test_health(http) -> None:
    assert (await http.get("/models/sentiment/health")).status_code == 200
    broken = await http.get("/models/broken/health")
    assert broken.status_code == 503
    assert broken.json() == {"error": "models/broken/config.yml: no"}
    assert (await http.get("/models/nobody/health")).status_code == 404


@pytest.mark.parametrize("path", ["/models/loading", "/models/loading/health"])
async def test_loading_is_said_as_the_hub_says_it(http, conforms, path: str) -> None:
    answered = await http.request(
        "GET" if path.endswith("health") else "POST", path, content=b'{"inputs": "hi"}'
    )
    assert answered.status_code == 503
    assert answered.json() == {"error": "Model loading is currently loading", "estimated_time": 20.0}
    assert "retry-after" in answered.headers
    conforms(answered.json(), "HubFailure")


class Patient(FakeRouter):
    """A cluster whose model "loading" will be up in a moment: like the Router, it holds what comes before."""

    def __init__(self) -> None:
        super().__init__()
        self.up = asyncio.Event()

    def task(self, model_id: str) -> Task:
        return TASKS["text-generation"] if model_id == "loading" else super().task(model_id)

    async def infer(self, model_id: str, inputs: list[Any], params: Any) -> Any:
        await self.up.wait()
        return await super().infer(model_id, inputs, params)

    async def stream(self, model_id: str, input: Any, params: Any) -> Any:
        await self.up.wait()
        async for chunk in super().stream(model_id, input, params):
            yield chunk


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("headers", "options", "held"),
    [
        ({}, {}, True),
        ({"x-wait-for-model": "true"}, {}, True),
        ({"x-wait-for-model": "1"}, {"use_cache": False}, True),
        ({}, {"wait_for_model": True}, True),
        ({}, {"wait_for_model": None}, True),
        ({"x-wait-for-model": "false"}, {}, False),
        ({"x-wait-for-model": "0"}, {}, False),
        ({}, {"wait_for_model": False}, False),
    ],
    ids=str,
)
async def test_who_waits_for_a_loading_model(
    conforms, stream: bool, headers: dict[str, str], options: dict[str, Any], held: bool
) -> None:
    router = Patient()
    transport = httpx.ASGITransport(web.build(router, [dialect]))
    async with httpx.AsyncClient(transport=transport, base_url="http://door", verify=False) as http:
        body = {"inputs": "Once", "options": options, "stream": stream}
        asking = asyncio.create_task(http.post("/models/loading", json=body, headers=headers))
        if held:
            await asyncio.wait({asking}, timeout=0.05)
            assert not asking.done()
            router.up.set()
        answered = await asyncio.wait_for(asking, 5)
        if held:
            assert answered.status_code == 200
            assert "word" in answered.text
        else:
            assert answered.status_code == 503
            assert answered.json() == {"error": "Model loading is currently loading", "estimated_time": 20.0}
            conforms(answered.json(), "HubFailure")
            assert not router.asked


async def test_who_waits_for_nothing_is_answered_by_a_model_that_is_ready(http) -> None:
    body = {"inputs": "hi", "options": {"wait_for_model": False}}
    assert (await http.post("/models/sentiment", json=body)).status_code == 200


@pytest.mark.parametrize("path", ["/models/nobody", "/models/nobody/info", "/pipeline/sentiment/nobody"])
async def test_an_unknown_model_is_404(http, path: str) -> None:
    answered = await http.request("GET" if path.endswith("info") else "POST", path)
    assert answered.status_code == 404
    assert answered.json() == {"error": "no model is named 'nobody'"}


async def test_headers_hold_any_sentence(http, router) -> None:
    router.outputs["sentiment"] = lambda _: Forbidden("not\r\nhere: 明")
    answered = await http.post("/models/sentiment", json={"inputs": "hi"})
    assert answered.status_code == 403
    assert answered.json()["error"] == "not\r\nhere: 明"
    assert answered.headers["x-error-message"] == "not here: ?"
    answered = await http.post("/models/sentiment", json={"inputs": "hi", "parameters": {"a\0b\x1f\x7fé": 1}})
    assert "`a\0b\x1f\x7fé`" in answered.json()["error"]
    assert answered.headers["x-error-message"].startswith("`a?b ??`")
    answered = await http.post("/models/sentiment", json={"inputs": "hi", "long" * 10_000: 1})
    assert answered.status_code == 422
    assert len(answered.headers["x-error-message"]) == 1000


# ------------------------------------------------------------------------------------------ the Hub's client


@pytest.fixture
def client(url: str, router: FakeRouter) -> Any:
    """The Hub's client of a model."""
    return lambda model_id: InferenceClient(model=f"{url}/models/{model_id}", token="none")


def test_client_text_classification(client, router) -> None:
    router.outputs["sentiment"] = lambda _: TASKS["sentiment"].output(
        labels=[Label(label="POSITIVE", score=0.9), Label(label="NEGATIVE", score=0.1)]
    )
    for params in ({}, {"top_k": 2, "function_to_apply": "softmax"}):
        labels = client("sentiment").text_classification("I loved it.", **params)
        assert [(label.label, label.score) for label in labels] == [("POSITIVE", 0.9), ("NEGATIVE", 0.1)]
    assert [params.top_k for _, _, params in router.asked] == [None, 2]


def test_client_summarization(client, router) -> None:
    for params in (
        {},
        {"clean_up_tokenization_spaces": True},
        {"generate_parameters": {"max_new_tokens": 5}},
    ):
        assert client("summarization").summarization("A long text.", **params).summary_text == "word"


def test_client_text_generation(client, router) -> None:
    ask = client("text-generation").text_generation
    assert ask("Once") == "word"
    assert ask("Once", max_new_tokens=5, do_sample=True, temperature=0.7, stop=["."], seed=1) == "word"
    told = ask("Once", details=True, max_new_tokens=5)
    assert told.generated_text == "word"
    assert told.details.finish_reason
    assert told.details.tokens[0].text == "word"
    assert told.details.top_tokens[0][0]["text"] == "word", "the client leaves these as they come"
    assert router.asked[-1][2].details
    assert router.asked[1][2].stop == ["."]


def test_client_text_generation_with_all_that_can_be_asked(client, router) -> None:
    asked = {
        "do_sample": True,
        "frequency_penalty": 0.5,
        "max_new_tokens": 5,
        "repetition_penalty": 1.1,
        "seed": 1,
        "stop": ["."],
        "temperature": 0.7,
        "top_k": 5,
        "top_p": 0.9,
        "truncate": 100,
        "typical_p": 0.9,
    }
    says_nothing = {
        "adapter_id": None,
        "best_of": 1,
        "decoder_input_details": False,
        "grammar": None,
        "return_full_text": False,
        "watermark": False,
    }
    for model_id in ("text-generation", "conversational"):
        assert client(model_id).text_generation("Once", **asked, **says_nothing) == "word"
        params = router.asked[-1][2]
        assert {name: getattr(params, name) for name in asked} == asked


@pytest.mark.parametrize(
    "refused",
    [
        {"adapter_id": "some/adapter"},
        {"best_of": 2},
        {"decoder_input_details": True, "details": True},
        {"grammar": {"type": "regex", "value": "a+"}},
        {"watermark": True},
    ],
    ids=lambda refused: next(iter(refused)),
)
@pytest.mark.parametrize("stream", [False, True])
def test_client_hears_at_once_what_cannot_be_asked(client, router, refused: Any, stream: bool) -> None:
    """Told in any other way ("`model_kwargs` are not used"), the client would ask again, for ever."""
    with pytest.raises(HubValidationError, match=next(iter(refused))):
        client("text-generation").text_generation("Once", stream=stream, **refused)
    assert not router.asked


def test_client_text_generation_streams(client, router) -> None:
    ask = client("text-generation").text_generation
    assert list(ask("Once", stream=True)) == ["word"]
    (told,) = ask("Once", stream=True, details=True, top_n_tokens=2)
    assert told.token.text == "word"
    assert told.top_tokens[0].text == "word"
    assert told.details.generated_tokens == 7
    assert told.details.finish_reason
    assert router.asked[-1][2].top_n_tokens == 2


def test_client_feature_extraction(client, router) -> None:
    ask = client("embeddings").feature_extraction
    assert ask("One.").tolist() == [[0.5, 0.5]]
    assert ask(["One.", "Two."]).tolist() == [[0.5, 0.5]] * 2
    assert ask("One.", normalize=True, truncate=True, truncation_direction="left").tolist() == [[0.5, 0.5]]
    assert router.asked[-1][2].truncation_direction == "left"
    asked = {"normalize": False, "prompt_name": "query", "truncate": False, "dimensions": 2}
    assert ask("One.", encoding_format="float", **asked).tolist() == [[0.5, 0.5]]
    assert {name: getattr(router.asked[-1][2], name) for name in asked} == asked
    with pytest.raises(HfHubHTTPError, match="encoding_format"):
        ask("One.", encoding_format="base64")
    router.outputs["embeddings"] = lambda _: TASKS["embeddings"].output(
        tokens=[{"index": 0, "values": [1.0, 2.0]}, {"index": 1, "values": [3.0, 4.0]}]
    )
    assert ask("One.").tolist() == [[[1.0, 2.0], [3.0, 4.0]]]


def test_client_sentence_similarity(client, router) -> None:
    asked = client("sentence-similarity").sentence_similarity("One.", other_sentences=["Two.", "Three."])
    assert asked == [0.5, 0.5]


def test_client_image_classification(client, router) -> None:
    for params in ({}, {"top_k": 2}):
        assert client("image-classification").image_classification(PICTURE, **params)[0].label == "word"
    assert [inputs[0].image for _, inputs, _ in router.asked] == [PICTURE, PICTURE]


def test_client_object_detection(client, router) -> None:
    for params in ({}, {"threshold": 0.3}):
        found = client("object-detection").object_detection(PICTURE, **params)
        assert found[0].box.xmin == 7
    assert router.asked[-1][2].threshold == 0.3


def test_client_image_segmentation(client, router) -> None:
    for params in ({}, {"threshold": 0.3, "subtask": "semantic"}):
        segments = client("image-segmentation").image_segmentation(PICTURE, **params)
        assert segments[0].mask.size == (64, 64)


def test_client_picture_from_a_file(client, router, tmp_path) -> None:
    (tmp_path / "circle.png").write_bytes(PICTURE)
    path = str(tmp_path / "circle.png")
    assert client("image-classification").image_classification(path)[0].label == "word"


def test_client_raises_its_own_errors(client, router) -> None:
    router.outputs["text-generation"] = lambda _: Overloaded("every queue is full")
    with pytest.raises(OverloadedError, match="every queue is full"):
        client("text-generation").text_generation("Once")
    with pytest.raises(HubValidationError, match="max_new_tokens"):
        client("text-generation").text_generation("Once", max_new_tokens=-1)
    with pytest.raises(HfHubHTTPError, match="currently loading"):
        client("loading").text_classification("hi")
    with pytest.raises(HfHubHTTPError, match="no model is named 'nobody'"):
        client("nobody").text_generation("hi")


ERRORS = [
    (InvalidInput("no"), HubValidationError, "no"),
    (TooLarge("too long"), HubValidationError, "too long"),
    (Overloaded("every queue is full"), OverloadedError, "every queue is full"),
    (TimedOut("no answer within 60 seconds"), IncompleteGenerationError, "no answer within 60"),
    (ValueError("secret"), GenerationError, "internal error, request id"),
]


@pytest.mark.parametrize(("error", "kind", "told"), ERRORS, ids=lambda value: type(value).__name__)
def test_client_raises_what_fits_the_error(client, router, error: Exception, kind: Any, told: str) -> None:
    def fail(_: Any) -> Any:
        raise error

    router.outputs["text-generation"] = fail
    with pytest.raises(kind, match=told):
        client("text-generation").text_generation("Once")


@pytest.mark.parametrize(("error", "kind", "told"), ERRORS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("chunks_before", [0, 1])
def test_client_raises_it_from_a_stream_as_well(
    client, router, error: Exception, kind: Any, told: str, chunks_before: int
) -> None:
    async def chunks(_: Any) -> Any:
        for _index in range(chunks_before):
            yield sample(TASKS["text-generation"].chunk)
        raise error

    router.streams["text-generation"] = chunks
    asking = client("text-generation")
    with pytest.raises(kind, match=told):
        list(asking.text_generation("Once", stream=True, details=True))


def test_client_hears_an_error_in_a_stream(client, router) -> None:
    async def chunks(_: Any) -> Any:
        yield sample(TASKS["text-generation"].chunk)
        raise Overloaded("every queue is full")

    router.streams["text-generation"] = chunks
    asking = client("text-generation")
    words = asking.text_generation("Once", stream=True)
    assert next(words) == "word"
    with pytest.raises(OverloadedError, match="every queue is full"):
        next(words)


def test_a_closed_connection_ends_the_work(url, router) -> None:
    async def chunks(_: Any) -> Any:
        yield sample(TASKS["text-generation"].chunk)
        await asyncio.sleep(60)

    router.streams["text-generation"] = chunks
    body = {"inputs": "hi", "stream": True}
    with httpx.stream("POST", f"{url}/models/text-generation", json=body) as answered:
        lines = answered.iter_lines()
        assert next(lines).startswith("data: ")
        assert not router.closed
    deadline = time.monotonic() + 2
    while not router.closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert router.closed == ["text-generation"]


def test_client_health_and_info(url, router) -> None:
    for model_id, healthy in (("sentiment", True), ("broken", False)):
        client = InferenceClient(model=f"{url}/models/{model_id}", provider="hf-inference", token="none")
        assert client.health_check() is healthy
        assert client.get_endpoint_info()["served_model_name"] == model_id


def test_base64_on_the_wire(url, router) -> None:
    body = {"inputs": base64.b64encode(PICTURE).decode(), "parameters": {}}
    masks = httpx.post(f"{url}/models/image-segmentation", json=body).json()
    assert base64.b64decode(masks[0]["mask"]) == PICTURE
