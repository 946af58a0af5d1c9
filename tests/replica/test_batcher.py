"""The scheduler's promises: no wait when idle, encoding beside the network, a bad item fails alone."""

import asyncio
import pickle
import random
import threading
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import pytest

from deployments.errors import InvalidInput, TooLarge
from deployments.limits import Batching
from deployments.replica import batch_queue as backlog
from deployments.replica import batcher as batching
from deployments.replica.batcher import MAX_ENCODED_BATCHES, Batcher
from deployments.results import InferenceResults
from deployments.schema import Schema, Text
from deployments.task import Encoded, Module
from tests.waiting import until


class In(Schema):
    text: Text


class Params(Schema):
    top_k: int = 1
    stop: list[str] = []


class Model(Module):
    """Upper-cases; remembers its batches and bunches; its network says that it is `busy`, waits for `gate`.

    Refuses "bad", chokes on "boom" and has memory for `memory` characters, padding counted; "!" is refused
    before it reaches the network, and "panic" is no Exception.
    """

    memory = 1_000_000

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.bunches: list[list[str]] = []
        self.threads: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.busy = threading.Event()

    def encode(self, inputs: list[In], params: Params) -> list[Encoded]:
        texts = [item.text for item in inputs]
        self.bunches.append(texts)
        if "!" in texts:
            raise InvalidInput("no such token")
        if "panic" in texts:
            raise BaseException("rust has given up")
        return [Encoded(text, len(text), params.top_k * len(text)) for text in texts]

    def run(self, inputs: list[str], params: Params) -> list[str]:
        self.busy.set()
        self.gate.wait(5)
        self.batches.append(inputs)
        self.threads.append(threading.get_ident())
        if len(inputs) * max(map(len, inputs)) > self.memory:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if "bad" in inputs:
            raise InvalidInput("bad text")
        if "boom" in inputs:
            raise RuntimeError("boom")
        return [text.upper() for text in inputs]


@pytest.fixture
def model() -> Iterator[Model]:
    model = Model()
    yield model
    model.gate.set()


def batcher(model: Module, **limits: int) -> Batcher:
    return Batcher(model, Batching(**limits))


def ask(batcher: Batcher, *texts: str, params: Params | None = None) -> "asyncio.Task[InferenceResults]":
    return asyncio.create_task(batcher.submit([In(text=text) for text in texts], params or Params()))


async def busy(batcher: Batcher, model: Model) -> "asyncio.Task[InferenceResults]":
    """Return a call that the network works on, until its gate opens."""
    model.gate.clear()
    model.busy.clear()
    first = ask(batcher, "first")
    await until(model.busy.is_set)
    return first


async def queued(batcher: Batcher, *texts: str) -> None:
    """Until these, and no others, are encoded and wait for the network."""
    await until(lambda: batcher._queue.cost == sum(map(len, texts)))


async def behind_a_busy_model(
    batcher: Batcher, model: Model, texts: list[str], params: list[Params] | None = None
) -> list[Any]:
    """Return the answers to one call per text, all of which arrive while the network works on another."""
    first = await busy(batcher, model)
    rest = [
        ask(batcher, text, params=one)
        for text, one in zip(texts, params or [Params()] * len(texts), strict=True)
    ]
    await queued(batcher, *texts)
    model.gate.set()
    await first
    return [(await one)[0] for one in rest]


def sizes(model: Model) -> list[list[str]]:
    return [sorted(batch) for batch in model.batches]


async def test_idle_model_runs_a_request_at_once(model: Model) -> None:
    b = batcher(model)
    for text in "abc":
        assert await ask(b, text) == [text.upper()]
    assert model.batches == [["a"], ["b"], ["c"]]


async def test_single_request_uses_one_thread(model: Model) -> None:
    threads = []
    encode = model.encode
    model.encode = lambda *given: threads.append(threading.get_ident()) or encode(*given)  # type: ignore[method-assign]
    b = batcher(model)
    for _ in range(50):
        await ask(b, "a")
    assert len(set(threads + model.threads)) == 1


async def test_waiting_inputs_share_a_batch(model: Model) -> None:
    answers = await behind_a_busy_model(batcher(model), model, list("abc"))
    assert answers == ["A", "B", "C"]
    assert sizes(model) == [["first"], ["a", "b", "c"]]


async def test_waiting_inputs_are_encoded_during_the_forward_pass(model: Model) -> None:
    b = batcher(model)
    requests = [await busy(b, model)]
    requests += [ask(b, text) for text in "abc"]
    await queued(b, *"abc")
    assert model.batches == []
    assert sorted(text for bunch in model.bunches for text in bunch) == ["a", "b", "c", "first"]
    model.gate.set()
    await asyncio.gather(*requests)


async def test_encoded_inputs_ahead_are_bounded(model: Model) -> None:
    b = batcher(model, max_batch_tokens=10)
    texts = ["x" * 10] * 4000
    model.gate.clear()
    requests = [ask(b, "first"), ask(b, *texts)]
    await until(lambda: sum(map(len, model.bunches)) > MAX_ENCODED_BATCHES)
    await asyncio.sleep(0.25)  # as long as more would take
    assert sum(map(len, model.bunches)) - 1 <= MAX_ENCODED_BATCHES + 512
    model.gate.set()
    await asyncio.gather(*requests)
    assert sum(map(len, model.bunches)) == 4001


async def test_different_parameters_run_in_separate_batches(model: Model) -> None:
    params = [Params(stop=["."]), Params(top_k=2), Params(stop=["."])]
    await behind_a_busy_model(batcher(model), model, list("abc"), params)
    assert sizes(model) == [["first"], ["a", "c"], ["b"]]


async def test_batch_is_limited_by_max_batch_size(model: Model) -> None:
    await behind_a_busy_model(batcher(model, max_batch_size=2), model, list("abcde"))
    assert [len(batch) for batch in model.batches] == [1, 2, 2, 1]


async def test_batch_is_limited_by_tokens_oldest_first(model: Model) -> None:
    long = "x" * 100
    texts = [long, "a", "b", long, "c"]
    await behind_a_busy_model(batcher(model, max_batch_tokens=220), model, texts)
    assert sizes(model) == [["first"], [long, long], ["a", "b", "c"]]


async def test_limits_can_change_while_running(model: Model) -> None:
    b = batcher(model, max_batch_size=2)
    assert (b.limits.max_batch_size, b.limits.max_batch_tokens) == (2, 1024)
    b.limits = Batching(max_batch_size=3, max_batch_tokens=500)
    assert (b.limits.max_batch_size, b.limits.max_batch_tokens) == (3, 500)
    await behind_a_busy_model(b, model, list("abcde"))
    assert [len(batch) for batch in model.batches] == [1, 3, 2]


async def test_bad_input_fails_alone(model: Model) -> None:
    results = await ask(batcher(model), "a", "bad", "b", "boom", "c", "!", "panic", "d")
    assert [results[place] for place in (0, 2, 4, 7)] == ["A", "B", "C", "D"]
    assert isinstance(results[1], InvalidInput)
    assert str(results[3]) == "boom"
    assert isinstance(results[5], InvalidInput)
    assert isinstance(results[6], RuntimeError) and "rust" in str(results[6])
    assert results.usage.costs == [1, 3, 1, 4, 1, 0, 0, 1]


async def test_failure_count_ignores_inference_errors(model: Model) -> None:
    b = batcher(model)
    await ask(b, "bad")
    await ask(b, "!")
    assert b.failures == 0
    await ask(b, "boom")
    await ask(b, "panic")
    assert b.failures == 2
    await ask(b, "bad")
    assert b.failures == 2
    await ask(b, "a")
    assert b.failures == 0


async def test_out_of_memory_batch_is_halved_and_lowers_the_limit(model: Model) -> None:
    b = batcher(model)
    model.memory = 30
    assert set(await behind_a_busy_model(b, model, ["x" * 10] * 8)) == {"X" * 10}
    assert [len(batch) for batch in model.batches] == [1, 8, 4, 2, 2, 4, 2, 2]
    assert b.limits.max_batch_tokens == 20
    model.batches.clear()
    await behind_a_busy_model(b, model, ["x" * 10] * 8)
    assert [len(batch) for batch in model.batches] == [1, 2, 2, 2, 2]
    assert b.failures == 0


async def test_batch_limit_recovers_after_out_of_memory(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = batcher(model)
    most, model.memory = b.limits, 30
    await behind_a_busy_model(b, model, ["x" * 10] * 8)
    model.memory = 1_000_000
    await ask(b, "a")
    assert b.limits.max_batch_tokens == 20, "not at once"
    monkeypatch.setattr(batching, "MEMORY_RETRY_S", 0.0)
    b._larger_at = 0.0
    await ask(b, "a")
    assert b.limits.max_batch_tokens == 40
    model.memory = 30
    assert set(await behind_a_busy_model(b, model, ["x" * 10] * 8)) == {"X" * 10}, "tried too early, halved"
    model.memory = 1_000_000
    for _ in range(10):
        await ask(b, "a")
    assert b.limits == most
    assert b.failures == 0


async def test_cancelled_request_is_not_run(model: Model) -> None:
    b = batcher(model)
    first = await busy(b, model)
    gone = [ask(b, "gone"), ask(b, "gone", "too")]
    await queued(b, "gone", "gone", "too")
    for one in gone:
        one.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    last = ask(b, "last")
    model.gate.set()
    await asyncio.gather(first, last)
    assert model.batches == [["first"], ["last"]]


@pytest.mark.parametrize("hook", ["encode", "run"])
async def test_wrong_number_of_outputs_is_an_error(
    hook: str, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, hook, lambda inputs, params: [])
    (result,) = await ask(batcher(model), "a")
    assert "0 outputs for 1 inputs" in str(result)


async def test_too_large_response_is_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MAX_OUTPUT_NUMBERS", 10)
    b = batcher(model)
    answers = await ask(b, "four", "seven..", "six...", "a", params=Params(top_k=1))
    assert answers[:1] + answers[2:3] == ["FOUR", "SIX..."]
    for refused, numbers in (answers[1], 11), (answers[3], 11):
        assert isinstance(refused, TooLarge)
        assert f"hold {numbers} numbers; at most 10" in str(refused)
    assert {text for batch in model.batches for text in batch} == {"four", "six..."}, (
        "before it is worked for"
    )
    assert b.failures == 0


async def test_response_size_is_counted_per_request(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MAX_OUTPUT_NUMBERS", 10)
    texts = ["eight...", "six...", "four", "ten......."]
    answers = await batcher(model).submit([In(text=text) for text in texts], Params(), [1, 2, 1])
    assert answers == [text.upper() for text in texts]


async def test_no_inputs_return_no_outputs(model: Model) -> None:
    assert await ask(batcher(model)) == []
    assert model.batches == []


async def test_results_report_usage(model: Model) -> None:
    b = batcher(model, max_batch_size=2)
    began = perf_counter()
    requests = [await busy(b, model)]
    until_busy = perf_counter() - began
    requests.append(ask(b, "one", "two", "three"))
    await queued(b, "one", "two", "three")
    await asyncio.sleep(0.1)
    opened = perf_counter()
    model.gate.set()
    first, rest = await asyncio.gather(*requests)
    ended = perf_counter()
    assert (first.usage.costs, first.usage.batches) == ([5], [1])
    assert (rest.usage.costs, rest.usage.batches) == ([3, 3, 5], [2, 1])
    assert 0 < first.usage.queued_s < until_busy
    assert 0.1 < first.usage.inference_s < ended - began
    assert 0.1 < rest.usage.queued_s < ended - began
    assert 0 < rest.usage.inference_s < ended - opened
    assert 0 < first.usage.encoded_s < first.usage.queued_s
    assert 0 < rest.usage.encoded_s < rest.usage.queued_s
    travelled = pickle.loads(pickle.dumps(rest))
    assert travelled == rest and travelled.usage == rest.usage


async def test_module_without_encode_gets_raw_inputs() -> None:
    class Plain(Module):
        def run(self, inputs: list[In], params: Params) -> list[str]:
            return [item.text for item in inputs]

    answers = await ask(batcher(Plain()), "a", "bb")
    assert answers == ["a", "bb"] and answers.usage.costs == [1, 1]


@pytest.mark.parametrize("seed", range(3))
async def test_concurrent_requests_get_their_own_results(seed: int, model: Model) -> None:
    rng = random.Random(seed)
    b = batcher(model, max_batch_tokens=64, max_batch_size=7)
    model.memory = 100

    async def client() -> None:
        for _ in range(20):
            texts = [
                rng.choice(["a", "bb" * rng.randint(1, 60), "bad", "boom", "!", "panic"])
                for _ in range(rng.randint(1, 5))
            ]
            requests = ask(b, *texts, params=Params(top_k=rng.randint(1, 3)))
            if rng.random() < 0.2:
                await asyncio.sleep(rng.random() / 500)
                requests.cancel()
            answers = (await asyncio.gather(requests, return_exceptions=True))[0]
            if isinstance(answers, InferenceResults):
                for text, answer in zip(texts, answers, strict=True):
                    fine = text[0] in "ab" and text != "bad" and text != "boom" and len(text) <= 100
                    assert answer == text.upper() if fine else isinstance(answer, Exception)

    await asyncio.wait_for(asyncio.gather(*(client() for _ in range(30))), 30)
    assert await ask(b, "still here") == ["STILL HERE"]
