"""The router as the page sees it; what goes wrong is a sentence."""

from typing import Any

import httpx
import pytest

from deployments.errors import InvalidInput, ModelNotReady, Overloaded
from deployments.task import TASKS
from tests.ui.ui_server import House, door
from ui.client import Client, Refusal, body
from ui.live_models import Board

SENTIMENT = TASKS["sentiment"]


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
async def client(house: House) -> Any:
    made = Client("http://router", httpx.ASGITransport(door(house)))
    yield made
    await made.close()


async def test_it_reads_cards_figures_and_answers(client: Client) -> None:
    assert "sentiment" in {card.id for card in await client.cards()}
    assert (await client.figures())["sentiment"]["p50_ms"] > 0
    answer = await client.ask("sentiment", SENTIMENT, {"text": "x"}, {"top_k": 1})
    assert {one["label"] for one in answer} == {"positive", "negative"}


async def test_it_streams(client: Client) -> None:
    task = TASKS["text-generation"]
    events = [event async for event in client.stream("text-generation", task, {"text": "x"}, {})]
    assert events[-1]["generated_text"].startswith("You said x")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Overloaded("every queue is full", retry_after=4), "Every queue is full. Try again in 4 seconds."),
        (Overloaded("every queue is full"), "Every queue is full. Try again in a second."),
        (InvalidInput("`text` is odd"), "`text` is odd."),
        (ModelNotReady("it has gone!"), "It has gone! Try again in 2 seconds."),
    ],
)
async def test_what_goes_wrong_is_a_sentence(
    client: Client, house: House, error: Exception, told: str
) -> None:
    def refuse(asked: Any) -> Any:
        raise error

    house.outputs["sentiment"] = refuse
    with pytest.raises(Refusal, match=f"^{told.replace('.', '[.]')}$"):
        await client.ask("sentiment", SENTIMENT, {"text": "x"}, {})


async def test_a_model_that_loads_says_so(client: Client) -> None:
    with pytest.raises(Refusal, match="Model loading is currently loading"):
        await client.ask("loading", SENTIMENT, {"text": "x"}, {})


@pytest.mark.parametrize("status", [200, 404, 500, 502])
async def test_a_router_without_figures_or_in_trouble(status: int) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text="<html>"))
    client = Client("http://router", transport)
    assert await client.figures() == {}
    if status != 200:
        with pytest.raises(Refusal, match=f"HTTP status {status}"):
            await client.cards()
    await client.close()


async def test_the_board_asks_once_for_everyone_and_keeps_what_it_knew() -> None:
    asked: list[str] = []

    def router(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if len(asked) > 2:
            raise httpx.ConnectError("gone")
        return httpx.Response(
            200, json=[] if "status" in request.url.path else [{"id": "a", "state": "ready"}]
        )

    client = Client("http://router", httpx.MockTransport(router))
    board = Board(client)
    for _ in range(3):
        view = await board.look()
    assert asked == ["/models", "/status"]
    assert [card.id for card in view.cards] == ["a"]
    board.read_at = float("-inf")
    view = await board.look()
    assert view.trouble.startswith("The router does not answer")
    assert [card.id for card in view.cards] == ["a"]
    await client.close()


def test_a_lone_plain_value_stands_for_itself() -> None:
    assert body(SENTIMENT, {"text": "x"}, {}) == {"inputs": "x"}
    talk = {"messages": [{"role": "user", "content": "x"}]}
    assert body(TASKS["conversational"], talk, {"seed": 1}) == {"inputs": talk, "parameters": {"seed": 1}}
    pair = {"source_sentence": "a", "sentences": ["b"]}
    assert body(TASKS["sentence-similarity"], pair, {}) == {"inputs": pair}
