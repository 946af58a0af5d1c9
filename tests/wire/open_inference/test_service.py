"""The Open Inference Protocol without tensors: health, metadata, repository, statistics, generated text."""

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
    """Return a client of the protocol's root."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(served[1]), base_url="http://gateway/v2", verify=False
    )


async def get(http: httpx.AsyncClient, path: str, status: int = 200) -> Any:
    response = await http.get(path)
    assert response.status_code == status, response.text
    return response.json()


async def test_health_of_server_and_models(http, router) -> None:
    assert await get(http, "/health/live") == {"live": True}
    assert await get(http, "/health/ready") == {"ready": True}
    assert await get(http, "/models/sentiment/versions/1/ready") == {"ready": True, "name": "sentiment"}
    assert await get(http, "/models/loading/ready", 503) == {"error": "the model 'loading' is loading"}
    assert await get(http, "/models/broken/ready", 503) == {"error": "models/broken/config.yml: no"}
    assert await get(http, "/models/nope/ready", 404) == {"error": "no model is named 'nope'"}
    assert "no version '2'" in (await get(http, "/models/sentiment/versions/2", 404))["error"]
    router.startup_complete = False
    assert await get(http, "/health/ready", 503) == {"error": "the models are still loading"}


async def test_metadata_of_server_and_models(http, router) -> None:
    server = await get(http, "http://gateway/v2")
    assert server["name"] == "roster"
    assert {"binary_tensor_data", "model_repository", "statistics"} < {*server["extensions"]}
    assert (await get(http, "/models"))["models"] == list(router.cards)
    assert await get(http, "/models/object-detection") == {
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


async def test_repository_index(http, router) -> None:
    for body in (b"", b"{}", b'{"ready": false}'):
        index = (await http.post("/repository/index", content=body)).json()
        assert [model["name"] for model in index] == list(router.cards)
    reason = "models/broken/config.yml: no"
    assert {"name": "broken", "version": "1", "state": "UNAVAILABLE", "reason": reason} in index
    ready = (await http.post("/repository/index", json={"ready": True})).json()
    assert {model["state"] for model in ready} == {"READY"}


async def command(http: httpx.AsyncClient, path: str, body: Any = None) -> tuple[int, Any]:
    response = await http.post(f"/repository/models/{path}", json={} if body is None else body)
    return response.status_code, response.json()


async def test_load_and_unload_need_permission_and_no_config(http, router) -> None:
    status, failure = await command(http, "sentiment/unload")
    assert (status, list(failure)) == (403, ["error"])
    router.allow_model_control = True
    assert await command(http, "sentiment/unload", {"parameters": {"unload_dependents": False}}) == (200, {})
    assert router.cards["sentiment"].state == "unavailable"
    assert await command(http, "sentiment/load", {"parameters": None}) == (200, {})
    assert router.cards["sentiment"].state == "ready"
    assert (await command(http, "nope/load"))[0] == 404
    for verb, name in (("load", "config"), ("load", "file:1/model.onnx"), ("unload", "force")):
        status, failure = await command(http, f"sentiment/{verb}", {"parameters": {name: "{}"}})
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
        rates = {"requests_per_second": 1.0, "p50_ms": None, "p95_ms": None, "in_flight": 0}
        return [ModelStats(id="sentiment", **rates, totals=totals)]

    monkeypatch.setattr(router, "stats", stats)
    (model,) = (await get(http, "/models/sentiment/versions/1/stats"))["model_stats"]
    inference_stats = model.pop("inference_stats")
    assert model == {
        "name": "sentiment",
        "version": "1",
        "last_inference": 1700000000500,
        "inference_count": 6,
        "execution_count": 3,
        "batch_stats": [],
        "memory_usage": [],
    }
    zero = {"count": 0, "ns": 0}
    assert inference_stats == {
        "success": {"count": 3, "ns": 1_500_000_000},
        "fail": {"count": 1, "ns": 250_000_000},
        "queue": {"count": 3, "ns": 500_000_000},
        "compute_infer": {"count": 3, "ns": 750_000_000},
        **dict.fromkeys(["compute_input", "compute_output", "cache_hit", "cache_miss"], zero),
    }
    all_models = (await get(http, "/models/stats"))["model_stats"]
    assert [model["name"] for model in all_models] == list(router.cards)
    await get(http, "/models/nope/stats", 404)


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
async def test_generate_returns_the_text(http, router, model: str, params: dict[str, Any]) -> None:
    response = await http.post(f"/models/{model}/generate", json={"text_input": "Hi.", **params})
    assert response.json() == {"model_name": model, "model_version": "1", "text_output": "word"}
    ((_, (item,), used),) = router.received
    assert (used.max_new_tokens, used.stop) == (5, ["a"])
    assert "Hi." in str(item)


async def test_generate_accepts_the_example_of_tensorrt_llm(http, router) -> None:
    body = {"text_input": "What is machine learning?", "max_tokens": 20, "bad_words": "", "stop_words": ""}
    for model in GENERATING:
        response = await http.post(f"/models/{model}/generate", json=body)
        assert response.status_code == 200, response.text
    assert router.received[0][2].stop == []


def events(text: str) -> list[Any]:
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]


async def test_generate_stream_sends_an_event_per_token(http, router) -> None:
    async def chunks(_: Any) -> AsyncIterator[Any]:
        for index, (text, special) in enumerate([("a ", False), ("b", False), ("</s>", True)], 1):
            yield GeneratedChunk(index=index, token=Token(id=1, text=text, logprob=-1.0, special=special))
        raise Overloaded("full")

    router.streams["text-generation"] = chunks
    path = "/models/text-generation/versions/1/generate_stream"
    response = await http.post(path, json={"text_input": "Hi."})
    *chunk_events, last = events(response.text)
    assert [event["text_output"] for event in chunk_events] == ["a ", "b", ""]
    assert chunk_events[0]["model_name"] == "text-generation"
    assert last == {"error": "full"}
    response = await http.post(path, json={"text_input": "Hi.", "return_full_text": True})
    assert [event["text_output"] for event in events(response.text)[:-1]] == ["Hi.a ", "b", ""]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
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
async def test_invalid_generate_request_returns_400_or_404(
    http, path: str, body: Any, status: int, message: str
) -> None:
    response = await http.post(f"/models/{path}", json=body)
    assert response.status_code == status, response.text
    assert message in response.json()["error"]


async def test_generate_returns_the_error_of_the_model(http, router) -> None:
    router.outputs["text-generation"] = lambda _: InvalidInput("too long")
    response = await http.post("/models/text-generation/generate", json={"text_input": "Hi."})
    assert (response.status_code, response.json()) == (400, {"error": "too long"})


async def test_generate_stream_needs_a_task_that_streams(
    http, router, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dataclasses.replace(TASKS["text-generation"], chunk=None)
    monkeypatch.setattr(router, "task", lambda _: whole)
    response = await http.post("/models/text-generation/generate_stream", json={"text_input": "Hi."})
    assert (response.status_code, "cannot stream" in response.json()["error"]) == (400, True)
