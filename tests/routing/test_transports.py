"""What the gateway promises of calls holds with either `transport`: here with a stand-in for Serve."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, get_args

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from deployments.app import GatewayArgs
from deployments.card import Card
from deployments.card import Replicas as Number
from deployments.cluster.ray_private import handles as ray_private
from deployments.errors import InferenceError, InvalidInput, ModelNotReady, TimedOut
from deployments.results import InferenceResults, Usage
from deployments.routing.model_client import ModelClient
from deployments.routing.replica_transport import ReplicaTransport
from deployments.routing.router import TRANSPORTS
from deployments.schema import Schema
from tests.routing.fake_serve import FakeReplica, FakeServe
from tests.waiting import until


class Word(Schema):
    text: str


class Params(Schema):
    pass


class Model(FakeReplica):
    """InferenceResults as a `Replica` does; "wait" takes until `free`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.sizes: list[list[int]] = []
        self.ended: list[str] = []

    async def infer(  # type: ignore[override]
        self, inputs: list[Word], params: Params, sizes: list[int]
    ) -> InferenceResults:
        self.sizes.append(sizes)
        texts = [input.text for input in inputs]
        try:
            if "wait" in texts:
                await self.free.wait()
            if "refused" in texts:
                raise InvalidInput("refused")
            usage = Usage(costs=[len(text) for text in texts], batches=[len(texts)])
            return InferenceResults([text.upper() for text in texts], usage)
        finally:
            self.ended += texts

    async def stream(self, input: Word, params: Params) -> AsyncGenerator[list[str], None]:  # type: ignore[override]
        try:
            yield ["a"]
            yield ["b", "c"]
            if input.text == "refused":
                raise InvalidInput("refused")
            if input.text == "wait":
                await self.free.wait()
        finally:
            self.ended.append(input.text)

    async def count_tokens(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]


@pytest.fixture
async def model(serve: FakeServe) -> Model:
    model = Model("a")
    serve.method = lambda name, *arguments: by_handle(model, name, *arguments)
    await serve.list(model)
    return model


def by_handle(model: Model, name: str, *arguments: Any) -> Any:
    """Call as Serve does: errors come as Ray raises them, and the work is a task that can be cancelled."""
    result = getattr(model, name)(*arguments)
    return chunks(result) if name == "stream" else asyncio.create_task(outcome(name, result))


async def outcome(name: str, call: Any) -> Any:
    try:
        return await call
    except InferenceError as error:
        raise RayTaskError(name, "a traceback", error).as_instanceof_cause() from None


async def chunks(result: AsyncGenerator[Any, None]) -> AsyncIterator[Any]:
    async with aclosing(result):
        while (chunk := await outcome("stream", anext(result, None))) is not None:
            yield chunk


@pytest.fixture(params=[*TRANSPORTS])
async def transport(request: pytest.FixtureRequest, serve: FakeServe) -> AsyncIterator[ReplicaTransport]:
    transport = TRANSPORTS[request.param]("m")
    yield transport
    transport.close()
    await asyncio.sleep(0.01)


def client(transport: ReplicaTransport, timeout_s: float = 5.0) -> ModelClient:
    card = Card(id="m", state="ready", task="sentiment", replicas=Number(running=1))
    return ModelClient("m", lambda: card, timeout_s, transport)


def infer(client: ModelClient, *texts: str) -> "asyncio.Task[InferenceResults]":
    return asyncio.create_task(client.infer([Word(text=text) for text in texts], Params()))


def test_gateway_accepts_every_transport() -> None:
    assert get_args(GatewayArgs.model_fields["transport"].annotation) == tuple(TRANSPORTS)


async def test_call_returns_results_and_usage(transport: ReplicaTransport, model: Model) -> None:
    results = await infer(client(transport), "a", "bb")
    assert results == ["A", "BB"]
    assert (results.usage.costs, results.usage.batches) == ([1, 2], [2])
    assert await client(transport).call("count_tokens", ["abc"]) == [3]
    assert transport.requests == 0


async def test_waiting_requests_share_a_call(transport: ReplicaTransport, model: Model) -> None:
    model.free.clear()
    one = client(transport)
    calls = [infer(one, "wait")]
    await until(lambda: model.sizes)
    one._coalescer._last_elapsed_s = 60.0  # so that the others wait for the call before
    calls += [infer(one, "b", "c"), infer(one, "d")]
    await asyncio.sleep(0)
    model.free.set()
    results = await asyncio.gather(*calls)
    assert results == [["WAIT"], ["B", "C"], ["D"]]
    assert model.sizes == [[1], [2, 1]]
    assert [result.usage.costs for result in results] == [[4], [1, 1], [1]]


async def test_disconnect_does_not_cancel_a_shared_call(transport: ReplicaTransport, model: Model) -> None:
    model.free.clear()
    one = client(transport)
    first = infer(one, "a")
    await first
    one._coalescer._calls_in_flight = 1  # as if there were one
    leaves, stays = infer(one, "wait"), infer(one, "b")
    await until(lambda: len(model.sizes) == 2)
    leaves.cancel()
    await asyncio.sleep(0.01)
    model.free.set()
    assert await stays == ["B"]


async def test_replica_error_is_raised_unchanged(transport: ReplicaTransport, model: Model) -> None:
    with pytest.raises(InvalidInput, match=r"^refused$") as refused:
        await infer(client(transport), "refused")
    assert type(refused.value) is InvalidInput


async def test_stream_yields_chunks(transport: ReplicaTransport, model: Model) -> None:
    stream = client(transport).stream(Word(text="x"), Params())
    assert [chunk async for chunk in stream] == ["a", "b", "c"]
    stream = client(transport).stream(Word(text="refused"), Params())
    assert [await anext(stream) for _ in range(3)] == ["a", "b", "c"]
    with pytest.raises(InvalidInput, match=r"^refused$"):
        await anext(stream)
    assert transport.requests == 0


async def test_deadline_ends_the_work(transport: ReplicaTransport, model: Model) -> None:
    model.free.clear()
    with pytest.raises(TimedOut):
        await infer(client(transport, timeout_s=0.2), "wait")
    await until(lambda: model.ended == ["wait"])
    stream = client(transport, timeout_s=0.2).stream(Word(text="wait"), Params())
    assert [await anext(stream) for _ in range(3)] == ["a", "b", "c"]
    with pytest.raises(TimedOut):
        await anext(stream)
    await until(lambda: model.ended == ["wait", "wait"])
    assert transport.requests == 0


async def test_call_is_retried_when_its_replica_dies(
    transport: ReplicaTransport, model: Model, serve: FakeServe
) -> None:
    deaths = 2

    async def die() -> None:
        raise ActorDiedError

    def method(name: str, *arguments: Any) -> Any:
        nonlocal deaths
        deaths -= 1
        return die() if deaths >= 0 else by_handle(model, name, *arguments)

    serve.method = method
    one = client(transport)
    if transport.__class__ is TRANSPORTS["channel"]:
        await infer(one, "a")
        transport._connections["a"].transport.abort()  # type: ignore[attr-defined]
    assert await infer(one, "b") == ["B"]


async def test_repeated_replica_deaths_are_model_not_ready(model: Model, serve: FakeServe) -> None:
    async def die() -> None:
        raise ActorDiedError

    serve.method = lambda *_: die()
    with pytest.raises(ModelNotReady, match="its replicas are restarting"):
        await infer(client(TRANSPORTS["handle"]("m")), "a")


async def test_handle_transport_uses_no_private_api_of_ray(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("running_replicas", "count_running", "count_queued", "most_queued"):
        monkeypatch.delattr(ray_private, name)
    one = client(TRANSPORTS["handle"]("m"))
    calls = [infer(one, text) for text in "abcdef"]
    assert [*map(len, await asyncio.gather(*calls))] == [1] * 6
    assert [chunk async for chunk in one.stream(Word(text="x"), Params())] == ["a", "b", "c"]
