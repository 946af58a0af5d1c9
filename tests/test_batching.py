"""The scheduler's promises: no wait when idle, no starvation, a bad item fails alone."""

import asyncio
import threading
from typing import Any

import pytest

from deployments.batching import Batcher, estimate_tokens
from deployments.config import Batching
from deployments.errors import InvalidInput
from deployments.schema import Messages, Schema, Text


class In(Schema):
    text: Text


class Chat(Schema):
    messages: Messages


class Params(Schema):
    top_k: int = 1


class Model:
    """Upper-cases; remembers its batches; waits for `gate`; refuses "bad" and chokes on "boom"."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()

    def run(self, inputs: list[Any], params: Any) -> list[str]:
        self.gate.wait(5)
        self.batches.append([item.text for item in inputs])
        for item in inputs:
            if item.text == "bad":
                raise InvalidInput("bad text")
            if item.text == "boom":
                raise RuntimeError("boom")
        return [item.text.upper() for item in inputs]


@pytest.fixture
def model() -> Model:
    return Model()


def batcher(model: Model, **limits: int) -> Batcher:
    return Batcher(model.run, Batching(**limits))


async def behind_a_busy_model(
    batcher: Batcher, model: Model, texts: list[str], params: list[Params]
) -> list[Any]:
    model.gate.clear()
    first = asyncio.create_task(batcher.submit([In(text="first")], Params()))
    await asyncio.sleep(0.02)
    rest = [asyncio.create_task(batcher.submit([In(text=t)], p)) for t, p in zip(texts, params, strict=True)]
    await asyncio.sleep(0.02)
    model.gate.set()
    await first
    return [(await task)[0] for task in rest]


async def test_an_idle_model_gets_a_request_at_once(model: Model) -> None:
    assert await batcher(model).submit([In(text="a")], Params()) == ["A"]
    assert model.batches == [["a"]]


async def test_what_waits_together_runs_together(model: Model) -> None:
    answers = await behind_a_busy_model(batcher(model), model, list("abc"), [Params()] * 3)
    assert answers == ["A", "B", "C"]
    assert [sorted(batch) for batch in model.batches] == [["first"], ["a", "b", "c"]]


async def test_other_parameters_wait_for_their_own_batch(model: Model) -> None:
    await behind_a_busy_model(batcher(model), model, list("abc"), [Params(), Params(top_k=2), Params()])
    assert [sorted(batch) for batch in model.batches] == [["first"], ["a", "c"], ["b"]]


async def test_a_batch_holds_at_most_its_items(model: Model) -> None:
    await behind_a_busy_model(batcher(model, max_batch_size=2), model, list("abcde"), [Params()] * 5)
    assert [len(batch) for batch in model.batches] == [1, 2, 2, 1]


async def test_a_batch_holds_at_most_its_tokens_and_the_oldest_goes_first(model: Model) -> None:
    long = "x" * 400
    texts = [long, "a", "b", long, "c"]
    await behind_a_busy_model(batcher(model, max_batch_tokens=220), model, texts, [Params()] * 5)
    assert model.batches[1] == [long, long]
    assert sorted(model.batches[2]) == ["a", "b", "c"]


async def test_a_bad_item_fails_alone(model: Model) -> None:
    texts = ["a", "bad", "b", "boom", "c"]
    results = await batcher(model).submit([In(text=text) for text in texts], Params())
    assert [results[0], results[2], results[4]] == ["A", "B", "C"]
    assert isinstance(results[1], InvalidInput)
    assert isinstance(results[3], RuntimeError)


async def test_only_unforeseen_failures_are_counted(model: Model) -> None:
    b = batcher(model)
    await b.submit([In(text="bad")], Params())
    assert b.failures == 0
    await b.submit([In(text="boom")], Params())
    await b.submit([In(text="boom")], Params())
    assert b.failures == 2
    await b.submit([In(text="a")], Params())
    assert b.failures == 0


async def test_a_caller_that_has_gone_is_not_worked_for(model: Model) -> None:
    b = batcher(model)
    model.gate.clear()
    first = asyncio.create_task(b.submit([In(text="first")], Params()))
    await asyncio.sleep(0.02)
    gone = asyncio.create_task(b.submit([In(text="gone")], Params()))
    await asyncio.sleep(0.02)
    gone.cancel()
    model.gate.set()
    await first
    await b.submit([In(text="last")], Params())
    assert ["gone"] not in model.batches


async def test_a_module_that_loses_an_item_is_found_out() -> None:
    lossy = Batcher(lambda inputs, params: [], Batching())
    (result,) = await lossy.submit([In(text="a")], Params())
    assert "0 outputs for 1 inputs" in str(result)


def test_tokens_are_estimated_from_the_texts() -> None:
    assert estimate_tokens(In(text="x" * 40)) == 11
    assert estimate_tokens(Chat(messages="x" * 40)) == 11
