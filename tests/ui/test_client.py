"""The gateway client and the cache of the live models."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from deployments.errors import InvalidInput, ModelNotReady, Overloaded
from deployments.task import TASKS
from tests.ui.ui_server import DemoRouter, gateway_app
from ui.client import GatewayClient, RequestFailed, request_body
from ui.live_models import CACHE_S, LiveModels

SENTIMENT = TASKS["sentiment"]


@pytest.fixture
def demo_router() -> DemoRouter:
    return DemoRouter()


@pytest.fixture
async def client(demo_router: DemoRouter) -> AsyncIterator[GatewayClient]:
    client = GatewayClient("http://gateway", httpx.ASGITransport(gateway_app(demo_router)))
    yield client
    await client.close()


async def test_client_fetches_cards_stats_and_outputs(client: GatewayClient) -> None:
    assert "sentiment" in {card.id for card in await client.fetch_cards()}
    assert (await client.fetch_stats())["sentiment"]["p50_ms"] > 0
    labels = await client.infer("sentiment", SENTIMENT, {"text": "x"}, {"top_k": 1})
    assert {label["label"] for label in labels} == {"positive", "negative"}


async def test_client_streams_events(client: GatewayClient) -> None:
    task = TASKS["text-generation"]
    events = [event async for event in client.stream_events("text-generation", task, {"text": "x"}, {})]
    assert events[-1]["generated_text"].startswith("You said x")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (Overloaded("every queue is full", retry_after=4), "Every queue is full. Try again in 4 seconds."),
        (Overloaded("every queue is full"), "Every queue is full. Try again in a second."),
        (InvalidInput("`text` is odd"), "`text` is odd."),
        (ModelNotReady("it was removed!"), "It was removed! Try again in 2 seconds."),
    ],
)
async def test_error_response_raises_request_failed_with_a_sentence(
    client: GatewayClient, demo_router: DemoRouter, error: Exception, sentence: str
) -> None:
    def fail(input: Any) -> Any:
        raise error

    demo_router.outputs["sentiment"] = fail
    with pytest.raises(RequestFailed, match=f"^{sentence.replace('.', '[.]')}$"):
        await client.infer("sentiment", SENTIMENT, {"text": "x"}, {})


async def test_request_to_a_loading_model_fails(client: GatewayClient) -> None:
    with pytest.raises(RequestFailed, match="Model loading is currently loading"):
        await client.infer("loading", SENTIMENT, {"text": "x"}, {})


@pytest.mark.parametrize("status", [200, 404, 500, 502])
async def test_gateway_without_valid_json(status: int) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text="<html>"))
    client = GatewayClient("http://gateway", transport)
    assert await client.fetch_stats() == {}
    if status != 200:
        with pytest.raises(RequestFailed, match=f"HTTP status {status}"):
            await client.fetch_cards()
    await client.close()


@pytest.mark.parametrize(("headers", "notices"), [
    ({}, []),
    ({"x-roster-truncated": "6/91"}, ["The input is longer than the model reads: it read 6 of 91 tokens."]),
])  # fmt: skip
async def test_truncation_is_shown(headers: dict[str, str], notices: list[str]) -> None:
    labels = [[{"label": "POSITIVE", "score": 0.9}]]
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=labels, headers=headers))
    shown: list[str] = []
    client = GatewayClient("http://gateway", transport, shown.append)
    assert await client.infer("sentiment", SENTIMENT, {"text": "x"}, {}) == labels[0]
    assert shown == notices
    await client.close()


async def test_live_models_are_cached_and_survive_a_lost_connection() -> None:
    paths: list[str] = []
    now = 0.0

    def respond(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        if len(paths) > 2:
            raise httpx.ConnectError("connection refused")
        return httpx.Response(
            200, json=[] if "status" in request.url.path else [{"id": "a", "state": "ready"}]
        )

    client = GatewayClient("http://gateway", httpx.MockTransport(respond))
    live_models = LiveModels(client, clock=lambda: now)
    for _ in range(3):
        snapshot = await live_models.get_snapshot()
    assert paths == ["/models", "/status"]
    assert [card.id for card in snapshot.cards] == ["a"]
    now = 2 * CACHE_S
    snapshot = await live_models.get_snapshot()
    assert snapshot.error.startswith("The gateway is not reachable")
    assert [card.id for card in snapshot.cards] == ["a"]
    await client.close()


def test_request_body_sends_an_only_plain_value_as_inputs() -> None:
    assert request_body(SENTIMENT, {"text": "x"}, {}) == {"inputs": "x"}
    chat = {"messages": [{"role": "user", "content": "x"}]}
    body = request_body(TASKS["conversational"], chat, {"seed": 1})
    assert body == {"inputs": chat, "parameters": {"seed": 1}}
    pair = {"source_sentence": "a", "sentences": ["b"]}
    assert request_body(TASKS["sentence-similarity"], pair, {}) == {"inputs": pair}
