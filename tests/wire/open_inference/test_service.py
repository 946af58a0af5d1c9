"""Everything in the Open Inference Protocol but inference: health, metadata, repository, statistics, text."""

import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from deployments.errors import InvalidInput, Overloaded
from deployments.generation.output import GeneratedChunk, Token
from deployments.task import TASKS
from deployments.telemetry.request_stats import ModelStats, Totals
from tests.fake_router import FakeRouter

GENERATING = ["text-generation", "conversational"]


@pytest.fixture
def http(router: FakeRouter, served: tuple[FakeRouter, Starlette]) -> httpx.AsyncClient:
    """A client of the protocol's own root."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(served[1]), base_url="http://door/v2", verify=False
    )


async def told(http: httpx.AsyncClient, path: str, status: int = 200) -> Any:
    answered = await http.get(path)
    assert answered.status_code == status, answered.text
    return answered.json()


async def test_health(http, router) -> None:
    assert await told(http, "/health/live") == {"live": True}
    assert await told(http, "/health/ready") == {"ready": True}
    assert await told(http, "/models/sentiment/versions/1/ready") == {"ready": True, "name": "sentiment"}
    assert await told(http, "/models/loading/ready", 503) == {"error": "the model 'loading' is loading"}
    assert await told(http, "/models/broken/ready", 503) == {"error": "models/broken/config.yml: no"}
    assert await told(http, "/models/nope/ready", 404) == {"error": "no model is named 'nope'"}
    assert "no version '2'" in (await told(http, "/models/sentiment/versions/2", 404))["error"]
    router.startup_complete = False
    assert await told(http, "/health/ready", 503) == {"error": "the models are still loading"}


async def test_metadata(http, router) -> None:
    server = await told(http, "http://door/v2")
    assert server["name"] == "roster"
    assert {"binary_tensor_data", "model_repository", "statistics"} < {*server["extensions"]}
    assert (await told(http, "/models"))["models"] == list(router.cards)
    assert await told(http, "/models/object-detection") == {
        "name": "object-detection",
        "versions": ["1"],
        "platform": "roster_transformers",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "output", "datatype": "BYTES", "shape": [-1, 1]},
            {"name": "objects", "datatype": "BYTES", "shape": [-1, 1]},
        ],
        "parameters": {"threshold": "The minimum score of an object."},
    }


async def test_the_repository(http, router) -> None:
    for body in (b"", b"{}", b'{"ready": false}'):
        index = (await http.post("/repository/index", content=body)).json()
        assert [one["name"] for one in index] == list(router.cards)
    reason = "models/broken/config.yml: no"
    assert {"name": "broken", "version": "1", "state": "UNAVAILABLE", "reason": reason} in index
    ready = (await http.post("/repository/index", json={"ready": True})).json()
    assert {one["state"] for one in ready} == {"READY"}


async def command(http: httpx.AsyncClient, what: str, body: Any = None) -> tuple[int, Any]:
    answered = await http.post(f"/repository/models/{what}", json={} if body is None else body)
    return answered.status_code, answered.json()


async def test_loading_is_the_operator_s_to_allow(http, router) -> None:
    status, failure = await command(http, "sentiment/unload")
    assert (status, list(failure)) == (403, ["error"])
    router.control = True
    assert await command(http, "sentiment/unload", {"parameters": {"unload_dependents": False}}) == (200, {})
    assert router.cards["sentiment"].state == "unavailable"
    assert await command(http, "sentiment/load", {"parameters": None}) == (200, {})
    assert router.cards["sentiment"].state == "ready"
    assert (await command(http, "nope/load"))[0] == 404
    for what, name in (("load", "config"), ("load", "file:1/model.onnx"), ("unload", "force")):
        status, failure = await command(http, f"sentiment/{what}", {"parameters": {name: "{}"}})
        assert status == 400 and name in failure["error"]
    assert router.cards["sentiment"].state == "ready"


async def test_statistics(http, router, monkeypatch: pytest.MonkeyPatch) -> None:
    totals = Totals(
        succeeded=3,
        failed=1,
        succeeded_s=1.5,
        failed_s=0.25,
        queued_s=0.5,
        inference_s=0.75,
        inputs=6,
        batches=2.25,
        last=1700000000.5,
    )

    async def stats() -> list[ModelStats]:
        one = {"requests_per_second": 1.0, "p50_ms": None, "p95_ms": None, "in_flight": 0}
        return [ModelStats(id="sentiment", **one, totals=totals)]

    monkeypatch.setattr(router, "stats", stats)
    (one,) = (await told(http, "/models/sentiment/versions/1/stats"))["model_stats"]
    inference_stats = one.pop("inference_stats")
    assert one == {
        "name": "sentiment",
        "version": "1",
        "last_inference": 1700000000500,
        "inference_count": 6,
        "execution_count": 3,
        "batch_stats": [],
        "memory_usage": [],
    }
    nothing = {"count": 0, "ns": 0}
    assert inference_stats == {
        "success": {"count": 3, "ns": 1_500_000_000},
        "fail": {"count": 1, "ns": 250_000_000},
        "queue": {"count": 3, "ns": 500_000_000},
        "compute_infer": {"count": 3, "ns": 750_000_000},
        **dict.fromkeys(["compute_input", "compute_output", "cache_hit", "cache_miss"], nothing),
    }
    every = (await told(http, "/models/stats"))["model_stats"]
    assert [model["name"] for model in every] == list(router.cards)
    await told(http, "/models/nope/stats", 404)


@pytest.mark.parametrize("model", GENERATING)
@pytest.mark.parametrize(
    "params",
    [
        {"parameters": {"max_new_tokens": 5, "stop": ["a"], "stream": False}},
        {"parameters": {"max_tokens": 5, "stop": ["a"]}, "id": "7"},
        {"max_tokens": 5, "stop": ["a"], "stream": True},
        {"max_tokens": 5, "stop_words": ["a", ""], "bad_words": [""]},
        {"parameters": {"max_tokens": 5, "stop_words": "a", "bad_words": []}},
    ],
)
async def test_text_is_generated(http, router, model: str, params: dict[str, Any]) -> None:
    answered = await http.post(f"/models/{model}/generate", json={"text_input": "Hi.", **params})
    assert answered.json() == {"model_name": model, "model_version": "1", "text_output": "word"}
    ((_, (item,), chosen),) = router.asked
    assert (chosen.max_new_tokens, chosen.stop) == (5, ["a"])
    assert "Hi." in str(item)


async def test_tensorrt_llm_s_own_example(http, router) -> None:
    body = {"text_input": "What is machine learning?", "max_tokens": 20, "bad_words": "", "stop_words": ""}
    for model in GENERATING:
        answered = await http.post(f"/models/{model}/generate", json=body)
        assert answered.status_code == 200, answered.text
    assert router.asked[0][2].stop == []


def events(text: str) -> list[Any]:
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]


async def test_text_is_streamed(http, router) -> None:
    async def chunks(_: Any) -> AsyncIterator[Any]:
        for index, (text, special) in enumerate([("a ", False), ("b", False), ("</s>", True)], 1):
            yield GeneratedChunk(index=index, token=Token(id=1, text=text, logprob=-1.0, special=special))
        raise Overloaded("full")

    router.streams["text-generation"] = chunks
    path = "/models/text-generation/versions/1/generate_stream"
    answered = await http.post(path, json={"text_input": "Hi."})
    *told, last = events(answered.text)
    assert [one["text_output"] for one in told] == ["a ", "b", ""]
    assert told[0]["model_name"] == "text-generation"
    assert last == {"error": "full"}
    answered = await http.post(path, json={"text_input": "Hi.", "return_full_text": True})
    assert [one["text_output"] for one in events(answered.text)[:-1]] == ["Hi.a ", "b", ""]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("sentiment/generate", {"text_input": "Hi."}, 400, "performs sentiment"),
        ("image-classification/generate_stream", {"text_input": "Hi."}, 400, "performs image-classification"),
        ("text-generation/generate", {}, 400, "`text_input`"),
        ("text-generation/generate", {"text_input": ["Hi."]}, 400, "`text_input`"),
        ("text-generation/generate", {"text_input": ""}, 400, "empty"),
        ("text-generation/generate", {"text_input": "Hi.", "bad_words": ["a"]}, 400, "`bad_words`"),
        ("text-generation/generate", {"text_input": "Hi.", "parameters": []}, 400, "`parameters`"),
        ("nope/generate", {"text_input": "Hi."}, 404, "'nope'"),
        ("text-generation/versions/3/generate", {"text_input": "Hi."}, 404, "'3'"),
    ],
)
async def test_what_is_not_generated(http, path: str, body: Any, status: int, said: str) -> None:
    answered = await http.post(f"/models/{path}", json=body)
    assert answered.status_code == status, answered.text
    assert said in answered.json()["error"]


async def test_a_failure_is_the_request_s(http, router) -> None:
    router.outputs["text-generation"] = lambda _: InvalidInput("too long")
    answered = await http.post("/models/text-generation/generate", json={"text_input": "Hi."})
    assert (answered.status_code, answered.json()) == (400, {"error": "too long"})


async def test_a_task_that_cannot_stream(http, router, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dataclasses.replace(TASKS["text-generation"], chunk=None)
    monkeypatch.setattr(router, "task", lambda _: whole)
    answered = await http.post("/models/text-generation/generate_stream", json={"text_input": "Hi."})
    assert (answered.status_code, "cannot stream" in answered.json()["error"]) == (400, True)
