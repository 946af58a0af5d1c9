"""Calls that share their client while the replicas are busy."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from deployments.card import Card
from deployments.card import Replicas as Number
from deployments.errors import InferenceError, InvalidInput, ModelNotFound, ModelNotReady, Overloaded
from deployments.results import InferenceResults, Usage
from deployments.routing import coalescing, model_client
from deployments.routing.coalescing import MAX_INPUTS, MAX_SIZE, RequestCoalescer
from deployments.routing.model_client import MAX_ATTEMPTS, ModelClient
from deployments.schema import Schema


class Word(Schema):
    text: str


class Params(Schema):
    top_k: int = 1


class Replicas:
    """Stands for a ReplicaSet: keeps each call until `answer`."""

    def __init__(self) -> None:
        self.requests: list[int] = []
        self.sizes: list[list[int]] = []
        self.queued = 0
        self.calls: list[tuple[list[str], Params]] = []
        self.open: list[asyncio.Future[Any]] = []
        self.failures: list[Exception] = []

    def report_queued(self, requests: int) -> None:
        self.queued = requests

    async def call(
        self,
        method: str,
        inputs: list[Word],
        params: Params,
        sizes: list[int],
        num_inputs: int,
        requests: int,
    ) -> InferenceResults:
        assert (method, num_inputs, requests) == ("infer", len(inputs), len(sizes))
        self.sizes.append(sizes)
        self.requests.append(requests)
        self.calls.append(([word.text for word in inputs], params))
        if self.failures:
            raise self.failures.pop(0)
        future = asyncio.get_running_loop().create_future()
        self.open.append(future)
        try:
            await future
        except asyncio.CancelledError:
            future.cancel()
            raise
        usage = Usage(costs=[len(word.text) for word in inputs], batches=[len(inputs)])
        return InferenceResults([word.text.upper() for word in inputs], usage)

    async def answer(self, count: int = 1) -> None:
        for _ in range(count):
            next(future for future in self.open if not future.done()).set_result(None)
        await settle()


async def settle() -> None:
    for _ in range(12):
        await asyncio.sleep(0)


@pytest.fixture
def replicas() -> Replicas:
    return Replicas()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send waiting requests when a call returns, independent of the machine's speed."""
    monkeypatch.setattr(RequestCoalescer, "_max_wait", lambda self: 60.0)


def make_client(replicas: Any, running: int = 2, **facts: Any) -> ModelClient:
    card = Card(id="m", state="ready", task="sentiment", replicas=Number(running=running), **facts)
    return ModelClient("m", lambda: card, 5, replicas)


async def ask(
    client: ModelClient, *texts: str, params: Params = Params()
) -> "asyncio.Task[InferenceResults]":
    task = asyncio.create_task(client.infer([Word(text=text) for text in texts], params))
    await settle()
    return task


async def test_idle_model_gets_the_call_at_once(replicas: Replicas) -> None:
    client = make_client(replicas)
    first, second = await ask(client, "a"), await ask(client, "b", "c")
    assert [texts for texts, _ in replicas.calls] == [["a"], ["b", "c"]]
    await replicas.answer(2)
    assert (await first, await second) == (["A"], ["B", "C"])


async def test_waiting_requests_share_a_call_in_order(replicas: Replicas) -> None:
    client = make_client(replicas, running=1)
    tasks = [await ask(client, "a"), await ask(client, "bb", "ccc"), await ask(client, "d")]
    assert len(replicas.calls) == 1
    await replicas.answer()
    assert [texts for texts, _ in replicas.calls] == [["a"], ["bb", "ccc", "d"]]
    assert replicas.requests == [1, 2], "callers, of which one has two inputs"
    assert replicas.sizes == [[1], [2, 1]]
    await replicas.answer()
    answers = await asyncio.gather(*tasks)
    assert answers == [["A"], ["BB", "CCC"], ["D"]]
    assert [one.usage.costs for one in answers] == [[1], [2, 3], [1]]


async def test_calls_share_requests_evenly_between_replicas(replicas: Replicas) -> None:
    client = make_client(replicas, running=2)
    tasks = [await ask(client, str(number)) for number in range(13)]
    await replicas.answer()
    assert [texts for texts, _ in replicas.calls[2:]] == [list("234567"), ["8", "9", "10", "11", "12"]]
    await replicas.answer(3)
    assert [one[0] for one in await asyncio.gather(*tasks)] == [str(number) for number in range(13)]


async def test_few_requests_are_not_split_between_replicas(replicas: Replicas) -> None:
    client = make_client(replicas, running=2)
    tasks = [await ask(client, text) for text in "abcdef"]
    await replicas.answer()
    assert [texts for texts, _ in replicas.calls[2:]] == [list("cdef")]
    await replicas.answer(2)
    await asyncio.gather(*tasks)


async def test_coalescing_wait_is_bounded(replicas: Replicas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RequestCoalescer, "_max_wait", lambda self: 0.02)
    client = make_client(replicas, running=1)
    tasks = [await ask(client, text) for text in "abc"]
    assert len(replicas.calls) == 1
    await asyncio.sleep(0.1)
    assert [texts for texts, _ in replicas.calls] == [["a"], ["b", "c"]]
    await replicas.answer(2)
    await asyncio.gather(*tasks)


async def test_coalescing_wait_is_a_fraction_of_the_call_duration(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    client = make_client(replicas)
    assert client._coalescer._max_wait() == 0
    client._coalescer._last_elapsed_s = 0.04
    assert client._coalescer._max_wait() == 0.04 * coalescing.WAIT_SHARE
    client._coalescer._last_elapsed_s = 40.0
    assert client._coalescer._max_wait() == coalescing.MAX_WAIT_S


async def test_requests_in_flight_are_limited_by_max_ongoing_requests(replicas: Replicas) -> None:
    client = make_client(replicas, running=1, max_ongoing_requests=3)
    tasks = [await ask(client, text) for text in "abcdef"]
    for _ in range(3):
        client._coalescer._send_waiting()
        await settle()
    assert [texts for texts, _ in replicas.calls] == [["a"], ["b", "c"]], "three are there"
    assert replicas.queued == 3
    await replicas.answer()
    assert [texts for texts, _ in replicas.calls[2:]] == [["d"]]
    assert replicas.queued == 2
    await replicas.answer(2)
    await replicas.answer()
    assert replicas.queued == 0
    assert [one[0] for one in await asyncio.gather(*tasks)] == list("ABCDEF")


async def test_different_parameters_go_in_separate_calls(replicas: Replicas) -> None:
    client = make_client(replicas, running=1)
    tasks = [await ask(client, "a")]
    tasks += [await ask(client, text, params=Params(top_k=k)) for text, k in (("b", 1), ("c", 2), ("d", 1))]
    for _ in range(3):
        await replicas.answer()
    await asyncio.gather(*tasks)
    assert [(texts, params.top_k) for texts, params in replicas.calls] == [
        (["a"], 1),
        (["b", "d"], 1),
        (["c"], 2),
    ]


async def test_shared_call_is_bounded_in_inputs_and_size(replicas: Replicas) -> None:
    client = make_client(replicas, running=1)
    tasks = [
        await ask(client, "a"),
        await ask(client, *["b"] * (MAX_INPUTS - 1)),
        await ask(client, "c", "d"),
    ]
    tasks += [await ask(client, "e" * MAX_SIZE), await ask(client, "f")]
    for _ in range(4):
        await replicas.answer()
    await asyncio.gather(*tasks)
    assert [len(texts) for texts, _ in replicas.calls] == [1, MAX_INPUTS, 2, 1]
    assert replicas.calls[1][0][-1] == "f", "what still fits goes before what does not"


async def test_failed_call_fails_all_requests_in_it(replicas: Replicas) -> None:
    client = make_client(replicas, running=1)
    first, *others = [await ask(client, "a"), await ask(client, "b"), await ask(client, "c")]
    replicas.failures = [InvalidInput("no")]
    await replicas.answer()
    assert await first == ["A"]
    for other in others:
        with pytest.raises(InvalidInput):
            await other


async def test_shared_call_is_retried_after_replica_death(replicas: Replicas) -> None:
    client = make_client(replicas, running=1)
    tasks = [await ask(client, "a"), await ask(client, "b"), await ask(client, "c")]
    replicas.failures = [ConnectionError(), ConnectionError()]
    await replicas.answer()
    await replicas.answer()
    assert await asyncio.gather(*tasks) == [["A"], ["B"], ["C"]]


async def test_cancelled_request_does_not_affect_others_in_the_call(replicas: Replicas) -> None:
    client = make_client(replicas, running=1)
    first, second, third = [await ask(client, "a"), await ask(client, "b"), await ask(client, "c")]
    await replicas.answer()
    second.cancel()
    await settle()
    await replicas.answer()
    assert (await first, await third) == (["A"], ["C"])


async def test_call_without_remaining_requests_is_cancelled(replicas: Replicas) -> None:
    client = make_client(replicas, running=1)
    first, second = await ask(client, "a"), await ask(client, "b")
    await replicas.answer()
    await first
    second.cancel()
    await settle()
    assert replicas.open[1].cancelled()
    third = await ask(client, "c")
    await replicas.answer()
    assert await third == ["C"]


async def test_request_cancelled_while_waiting_is_not_sent(replicas: Replicas) -> None:
    client = make_client(replicas, running=1)
    first, second = await ask(client, "a"), await ask(client, "b")
    second.cancel()
    await settle()
    await replicas.answer()
    await first
    assert len(replicas.calls) == 1


async def test_max_queued_requests_refuses_more(replicas: Replicas) -> None:
    client = make_client(replicas, running=1, max_ongoing_requests=1, max_queued_requests=1)
    first, second = await ask(client, "a"), await ask(client, "b")
    with pytest.raises(Overloaded) as refused:
        await (await ask(client, "c"))
    assert refused.value.retry_after == 1.0
    await replicas.answer()
    await replicas.answer()
    assert await asyncio.gather(first, second) == [["A"], ["B"]]


async def test_no_request_is_refused_while_replicas_have_capacity(replicas: Replicas) -> None:
    client = make_client(replicas, running=2, max_ongoing_requests=4, max_queued_requests=2)
    tasks = [await ask(client, str(number)) for number in range(10)]
    with pytest.raises(Overloaded):
        await (await ask(client, "one more"))
    while any(not future.done() for future in replicas.open):
        await replicas.answer()
    assert len(await asyncio.gather(*tasks)) == 10


async def test_cancelled_requests_are_not_counted_as_queued(replicas: Replicas) -> None:
    client = make_client(replicas, running=1, max_ongoing_requests=1, max_queued_requests=1)
    first, second = await ask(client, "a"), await ask(client, "b")
    client._coalescer._send_waiting()
    assert replicas.queued == 1
    second.cancel()
    await settle()
    assert replicas.queued == 0
    third = await ask(client, "c")
    await replicas.answer()
    await replicas.answer()
    assert (await first, await third) == (["A"], ["C"])


@pytest.mark.parametrize(
    ("raises", "error"),
    [(ModelNotFound("gone"), ModelNotFound), (None, ModelNotReady)],
)
async def test_waiting_requests_end_early_when_the_model_is_removed(
    replicas: Replicas,
    raises: Exception | None,
    error: type[InferenceError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_client, "REMOVED_MODEL_GRACE_S", 0.02)
    cards: list[Card] = [Card(id="m", state="ready", task="sentiment")]

    def card() -> Card:
        if raises and not cards:
            raise raises
        return cards[0] if cards else Card(id="m", state="unavailable", reason="it was removed")

    client = ModelClient("m", card, 5, replicas)  # type: ignore[arg-type]
    tasks = [await ask(client, "a"), await ask(client, "b")]
    cards.clear()
    client.shorten_deadlines()
    for task in tasks:
        with pytest.raises(error):
            await asyncio.wait_for(task, 1)


async def test_capacity_does_not_leak_in_any_order_of_events(replicas: Replicas) -> None:
    import random

    chance = random.Random(3)
    client = make_client(replicas, running=3)
    tasks: list[asyncio.Task[Any]] = []
    for number in range(300):
        tasks.append(await ask(client, str(number), params=Params(top_k=1 + number % 2)))
        waiting = [future for future in replicas.open if not future.done()]
        if waiting and chance.random() < 0.5:
            chance.choice(waiting).set_result(None)
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        await settle()
    while waiting := [future for future in replicas.open if not future.done()]:
        waiting[0].set_result(None)
        await settle()
    for number, task in enumerate(tasks):
        assert task.done()
        assert task.cancelled() or task.result() == [str(number)]
    coalescer = client._coalescer
    assert (
        coalescer._calls_in_flight,
        coalescer._requests_in_flight,
        len(coalescer._waiting),
        coalescer._sending,
    ) == (0, 0, 0, set())


LOST = ConnectionError("the replica has gone")


class Streams:
    """Stands for a ReplicaSet whose streams yield the given lists of chunks, or raise."""

    def __init__(self, *streams: list[Any]) -> None:
        self.requests, self.left = 0, [*streams]

    def report_queued(self, requests: int) -> None:
        pass

    async def stream(self, *arguments: Any) -> AsyncGenerator[Any, None]:
        for item in self.left.pop(0):
            if isinstance(item, Exception):
                raise item
            yield item


async def written(*streams: list[Any]) -> list[str]:
    return [chunk async for chunk in make_client(Streams(*streams)).stream(Word(text="a"), Params())]


async def test_stream_yields_chunks() -> None:
    assert await written([["a", "b"], [], ["c"]]) == ["a", "b", "c"]


async def test_stream_is_retried_before_its_first_chunk() -> None:
    assert await written([LOST], [LOST], [["a"]]) == ["a"]


@pytest.mark.parametrize("streams", [[[["a"], LOST], [["b"]]], [[LOST]] * MAX_ATTEMPTS])
async def test_stream_fails_when_its_replica_dies(streams: list[Any]) -> None:
    with pytest.raises(ModelNotReady, match="its replicas are restarting"):
        await written(*streams)
