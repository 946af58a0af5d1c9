"""The routes for the default model, and the facts about a model."""

import httpx
import pytest
from starlette.applications import Starlette

from deployments.card import Card
from deployments.dialects.tei import dialect
from deployments.errors import ModelNotFound
from deployments.gateway import http_app
from deployments.task import TASKS
from deployments.wire.model_info import model_type_of
from tests.fake_router import FakeRouter
from tests.wire.tei.samples import LABELS, ONE, TWO, VECTOR


class RouterWithoutDefaultModel(FakeRouter):
    """A router of a cluster without a default model."""

    @property
    def default_model(self) -> str:
        raise ModelNotFound("no model is named, and this cluster has no `default_model`")

    @default_model.setter
    def default_model(self, _: str) -> None:
        pass


def client_of(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", verify=False)


@pytest.mark.parametrize("path", ["/", "/invocations"])
async def test_main_route_depends_on_type_of_default_model(http, router, path: str) -> None:
    assert (await http.post(path, json={"inputs": ONE})).json() == [VECTOR]
    router.default_model = "sentiment"
    assert (await http.post(path, json={"inputs": ONE})).json() == LABELS
    router.default_model = "sentence-similarity"
    response = await http.post(path, json={"query": ONE, "texts": [TWO, TWO]})
    assert response.json() == [{"index": 0, "score": 0.5}, {"index": 1, "score": 0.5}]
    router.default_model = "object-detection"
    response = await http.post(path, json={"inputs": ONE})
    assert (response.status_code, response.json()["error_type"]) == (424, "Backend")
    assert "object-detection" in response.json()["error"]


@pytest.mark.parametrize("path", ["/", "/embed", "/embeddings", "/rerank", "/tokenize", "/invocations"])
async def test_route_without_model_is_404_without_default_model(path: str) -> None:
    async with client_of(http_app.build(RouterWithoutDefaultModel(), [dialect])) as http:
        response = await http.post(path, json={"inputs": ONE})
        assert response.status_code == 404
        assert "default_model" in response.json()["error"]
        assert (await http.get("/info")).status_code == 404


async def test_ping_reports_health_of_default_model(http, router) -> None:
    assert (await http.get("/ping")).json() == {"status": "ready"}
    for model_id, status in (("broken", 503), ("loading", 503), ("unknown", 404)):
        router.default_model = model_id
        assert (await http.get("/ping")).status_code == status


async def test_ping_without_default_model_reports_startup() -> None:
    router = RouterWithoutDefaultModel()
    async with client_of(http_app.build(router, [dialect])) as http:
        assert (await http.get("/ping")).status_code == 200
        router.startup_complete = False
        response = await http.get("/ping")
        assert (response.status_code, response.json()["error_type"]) == (503, "Unhealthy")


async def test_info_has_fields_of_tei_servers(http, router) -> None:
    info = (await http.get("/info")).json()
    assert info == (await http.get("/models/embeddings/info")).json()
    assert (info["model_id"], info["model_sha"], info["model_dtype"]) == (
        "example/embeddings",
        "714eb0f",
        "float32",
    )
    assert [*info["model_type"]] == ["embedding"]
    limits = ("max_input_length", "max_batch_tokens", "max_batch_requests", "max_client_batch_size")
    assert [info[name] for name in limits] == [512, 8192, 32, 1000]
    assert (info["auto_truncate"], info["tokenization_workers"]) == (False, 1)
    assert info["version"]
    assert info["max_concurrent_requests"] is None
    for model_id, type_ in (("sentiment", "classifier"), ("sentence-similarity", "reranker")):
        assert [*(await http.get(f"/models/{model_id}/info")).json()["model_type"]] == [type_]
    assert (await http.get("/models/object-detection/info")).json()["model_type"] is None
    card: Card = router.cards["embeddings"]
    limits = {"max_ongoing_requests": 4, "max_queued_requests": 100}
    router.cards["busy"] = card.model_copy(update={"id": "busy", **limits})
    try:
        assert (await http.get("/models/busy/info")).json()["max_concurrent_requests"] == 104
    finally:
        del router.cards["busy"]


def test_model_type_follows_from_task_schemas() -> None:
    types = {name: model_type_of(task) for name, task in TASKS.items()}
    assert {name: type_ for name, type_ in types.items() if type_} == {
        "embeddings": "embedding",
        "sentence-similarity": "reranker",
        "sentiment": "classifier",
    }
