"""Models: their cards, info and health, and requests to models that load or do not exist."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from deployments.dialects.huggingface import dialect
from deployments.errors import Forbidden
from deployments.gateway import http_app
from deployments.schema import MAX_ITEMS
from deployments.task import TASKS, Task
from tests.fake_router import FakeRouter
from tests.wire.huggingface.task_marks import every_task


async def test_models_are_listed(http, router, assert_conforms) -> None:
    cards = (await http.get("/models")).json()
    assert_conforms(cards, "Cards")
    assert [card["id"] for card in cards] == list(router.cards)


async def test_model_card_is_shown(http, router, assert_conforms) -> None:
    card = (await http.get("/models/sentiment")).json()
    assert_conforms(card, "Card")
    assert card == json.loads(router.cards["sentiment"].model_dump_json())


@every_task
async def test_info_of_ready_model(http, assert_conforms, task: Task) -> None:
    info = (await http.get(f"/models/{task.name}/info")).json()
    assert_conforms(info, "Info")
    assert info["model_id"] == f"example/{task.name}"
    assert info["model_pipeline_tag"] == task.pipeline_tag
    assert info["model_dtype"] == "float32"
    assert info["max_client_batch_size"] == MAX_ITEMS


@pytest.mark.parametrize("model_id", ["loading", "broken"])
async def test_info_of_model_that_is_not_loaded(http, assert_conforms, model_id: str) -> None:
    info = (await http.get(f"/models/{model_id}/info")).json()
    assert_conforms(info, "Info")
    assert info["model_dtype"] is None


async def test_health_of_models(http) -> None:
    assert (await http.get("/models/sentiment/health")).status_code == 200
    broken = await http.get("/models/broken/health")
    assert broken.status_code == 503
    assert broken.json() == {"error": "models/broken/config.yml: no"}
    assert (await http.get("/models/unknown/health")).status_code == 404


@pytest.mark.parametrize("path", ["/models/loading", "/models/loading/health"])
async def test_loading_model_has_error_of_hub(http, assert_conforms, path: str) -> None:
    response = await http.request(
        "GET" if path.endswith("health") else "POST", path, content=b'{"inputs": "hi"}'
    )
    assert response.status_code == 503
    assert response.json() == {"error": "Model loading is currently loading", "estimated_time": 20.0}
    assert "retry-after" in response.headers
    assert_conforms(response.json(), "HubFailure")


class RouterWithLoadingModel(FakeRouter):
    """A router that holds requests for the model "loading" until `loaded` is set, as the Router does."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = asyncio.Event()

    def task(self, model_id: str) -> Task:
        return TASKS["text-generation"] if model_id == "loading" else super().task(model_id)

    async def infer(self, model_id: str, inputs: list[Any], params: Any) -> Any:
        await self.loaded.wait()
        return await super().infer(model_id, inputs, params)

    async def stream(self, model_id: str, input: Any, params: Any) -> Any:
        await self.loaded.wait()
        async for chunk in super().stream(model_id, input, params):
            yield chunk


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("headers", "options", "waits"),
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
async def test_request_waits_for_loading_model_unless_declined(
    assert_conforms, stream: bool, headers: dict[str, str], options: dict[str, Any], waits: bool
) -> None:
    router = RouterWithLoadingModel()
    transport = httpx.ASGITransport(http_app.build(router, [dialect]))
    async with httpx.AsyncClient(transport=transport, base_url="http://test", verify=False) as http:
        body = {"inputs": "Once", "options": options, "stream": stream}
        request = asyncio.create_task(http.post("/models/loading", json=body, headers=headers))
        if waits:
            await asyncio.wait({request}, timeout=0.05)
            assert not request.done()
            router.loaded.set()
        response = await asyncio.wait_for(request, 5)
        if waits:
            assert response.status_code == 200
            assert "word" in response.text
        else:
            assert response.status_code == 503
            assert response.json() == {"error": "Model loading is currently loading", "estimated_time": 20.0}
            assert_conforms(response.json(), "HubFailure")
            assert not router.received


async def test_ready_model_responds_without_wait(http) -> None:
    body = {"inputs": "hi", "options": {"wait_for_model": False}}
    assert (await http.post("/models/sentiment", json=body)).status_code == 200


@pytest.mark.parametrize("path", ["/models/unknown", "/models/unknown/info", "/pipeline/sentiment/unknown"])
async def test_unknown_model_is_404(http, path: str) -> None:
    response = await http.request("GET" if path.endswith("info") else "POST", path)
    assert response.status_code == 404
    assert response.json() == {"error": "no model is named 'unknown'"}


async def test_error_header_is_printable_ascii_of_limited_length(http, router) -> None:
    router.outputs["sentiment"] = lambda _: Forbidden("not\r\nhere: 明")
    response = await http.post("/models/sentiment", json={"inputs": "hi"})
    assert response.status_code == 403
    assert response.json()["error"] == "not\r\nhere: 明"
    assert response.headers["x-error-message"] == "not here: ?"
    response = await http.post("/models/sentiment", json={"inputs": "hi", "parameters": {"a\0b\x1f\x7fé": 1}})
    assert "`a\0b\x1f\x7fé`" in response.json()["error"]
    assert response.headers["x-error-message"].startswith("`a?b ??`")
    response = await http.post("/models/sentiment", json={"inputs": "hi", "long" * 10_000: 1})
    assert response.status_code == 422
    assert len(response.headers["x-error-message"]) == 1000
