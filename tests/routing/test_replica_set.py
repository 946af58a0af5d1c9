"""Which replica is asked, and what happens when replicas come, go and break: Serve's side is a stand-in."""

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException

from deployments.cluster import ray_private
from deployments.errors import ModelNotReady
from deployments.routing import replica_set
from deployments.routing.replica_set import ReplicaSet
from deployments.transport.server import ReplicaServer
from tests.waiting import until


@asynccontextmanager
async def ongoing(method: str) -> AsyncIterator[None]:
    yield


class Replica:
    """One end of real connections; `infer` waits while `busy`."""

    def __init__(self, name: str) -> None:
        self.name, self.calls = name, 0
        self.free = asyncio.Event()
        self.free.set()
        self.server = ReplicaServer(self, ongoing)

    async def infer(self) -> str:
        self.calls += 1
        await self.free.wait()
        return self.name

    async def stream(self) -> AsyncIterator[str]:
        yield self.name


class Serve:
    """Stands for Serve: a handle, the replicas it lists, and the counts that it is told."""

    def __init__(self) -> None:
        self.listed: dict[str, Any] = {}
        self.counts: list[tuple[str, int]] = []
        self.queued: list[int] = []
        self.most = 1000
        self.waking: list[Exception | None] = []
        self.woken = 0
        self.exists = self.answers = True
        self.cancelled = False
        self.started: list[Replica] = []

    def get_app_handle(self, name: str) -> "Serve":
        if not self.exists:
            raise RayServeException("no such application")
        return self

    def options(self, method_name: str) -> "Serve":
        assert method_name == "ping"
        return self

    def remote(self) -> "Response":
        self.woken += 1
        return Response(self)

    async def start(self, *names: str) -> list[Replica]:
        replicas = [Replica(name) for name in names]
        self.started += replicas
        told = {one.name: await one.server.open("127.0.0.1") for one in replicas}
        self.listed = {
            **self.listed,
            **{name: SimpleNamespace(replica_metadata=address) for name, address in told.items()},
        }
        return replicas


class Response:
    def __init__(self, serve: Serve) -> None:
        self.serve = serve

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        await until(lambda: self.serve.waking or (self.serve.listed and self.serve.answers))
        if self.serve.waking and (error := self.serve.waking.pop(0)):
            raise error

    def cancel(self) -> None:
        self.serve.cancelled = True


@pytest.fixture
async def serve(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    serve = Serve()
    monkeypatch.setattr(replica_set.serve, "get_app_handle", serve.get_app_handle)
    monkeypatch.setattr(ray_private, "running_replicas", lambda _: serve.listed)
    monkeypatch.setattr(ray_private, "count_running", lambda _, id, by: serve.counts.append((id, by)))
    monkeypatch.setattr(ray_private, "count_queued", lambda _, by: serve.queued.append(by))
    monkeypatch.setattr(ray_private, "most_queued", lambda _: serve.most)
    yield serve
    for replica in serve.started:
        replica.server._server.close()
    await asyncio.sleep(0.01)  # what is closed is told in the next rounds of the loop


@pytest.fixture
async def replicas(serve: Serve) -> AsyncIterator[ReplicaSet]:
    found = ReplicaSet("m")
    yield found
    found.close()
    for connection in found._connections.values():
        connection.transport.abort()
    await until(lambda: not found._maintaining)


async def test_the_first_call_waits_for_a_replica_and_wakes_serve_once(
    serve: Serve, replicas: ReplicaSet
) -> None:
    calls = [asyncio.create_task(replicas.call("infer")) for _ in range(20)]
    await asyncio.sleep(0.05)
    assert not any(call.done() for call in calls)
    await serve.start("a")
    assert await asyncio.gather(*calls) == ["a"] * 20
    assert serve.woken == 1
    assert await replicas.call("infer") == "a"
    assert serve.woken == 1, "it is known now"


async def test_serve_is_told_of_each_request(serve: Serve, replicas: ReplicaSet) -> None:
    await serve.start("a")
    await replicas.call("infer")
    assert [piece async for piece in replicas.stream("stream")] == ["a"]
    assert serve.counts == [("a", 1), ("a", -1)] * 2
    await replicas.call("infer", num_inputs=64, requests=9)
    assert serve.counts[4:] == [("a", 9), ("a", -9)], "of a call that nine share, all nine"
    assert replicas.requests == 0


async def test_serve_is_told_what_waits(serve: Serve, replicas: ReplicaSet) -> None:
    replicas.report_queued(3)
    calls = [asyncio.create_task(replicas.call("infer", requests=4)) for _ in range(2)]
    await until(lambda: serve.woken)
    assert sum(serve.queued) == 3 + 8 - 1, "the call that wakes a replica is counted by Serve itself"
    replicas.report_queued(0)
    assert sum(serve.queued) == 7
    await serve.start("a")
    await asyncio.gather(*calls)
    assert sum(serve.queued) == 0


async def test_no_more_is_told_to_wait_than_serve_lets_wait(serve: Serve, replicas: ReplicaSet) -> None:
    serve.most = 5
    calls = [asyncio.create_task(replicas.call("infer")) for _ in range(20)]
    await until(lambda: serve.woken)
    assert sum(serve.queued) == 5, "or Serve would refuse the call that wakes a replica"
    await serve.start("a")
    await asyncio.gather(*calls)
    assert sum(serve.queued) == 0


async def test_a_replica_is_asked_for_again_where_serve_has_too_many_waiting(
    serve: Serve, replicas: ReplicaSet
) -> None:
    serve.waking.append(BackPressureError(1, 1))
    call = asyncio.create_task(replicas.call("infer"))
    await until(lambda: serve.woken == 2)
    await serve.start("a")
    assert await call == "a"


async def test_the_least_busy_is_asked_and_of_equal_ones_the_first(
    serve: Serve, replicas: ReplicaSet
) -> None:
    a, b = await serve.start("a", "b")
    assert await replicas.call("infer") == "a"
    await until(lambda: len(replicas._connections) == 2)
    assert [await replicas.call("infer") for _ in range(3)] == ["a"] * 3
    a.free.clear()
    busy = asyncio.create_task(replicas.call("infer", num_inputs=2))
    await until(lambda: a.calls == 5)
    assert [await replicas.call("infer") for _ in range(3)] == ["b"] * 3
    b.free.clear()
    others = [asyncio.create_task(replicas.call("infer")) for _ in range(3)]
    await until(lambda: b.calls == 5 and a.calls == 6)
    a.free.set()
    b.free.set()
    assert sorted(await asyncio.gather(busy, *others)) == ["a", "a", "b", "b"]


async def test_replicas_that_come_are_asked_and_those_that_leave_are_not(
    serve: Serve, replicas: ReplicaSet
) -> None:
    (a,) = await serve.start("a")
    a.free.clear()
    under_way = asyncio.create_task(replicas.call("infer"))
    await until(lambda: a.calls)
    serve.listed = {}
    await serve.start("b")
    assert await replicas.call("infer") == "b"
    a.free.set()
    assert await under_way == "a", "what a replica has, it ends"


async def test_a_connection_that_breaks_is_opened_again(serve: Serve, replicas: ReplicaSet) -> None:
    await serve.start("a")
    await replicas.call("infer")
    broken = replicas._connections["a"]
    broken.transport.abort()
    await until(lambda: replicas._connections.get("a") not in (None, broken))
    assert await replicas.call("infer") == "a"


async def test_a_dead_replica_fails_its_calls_and_the_next_waits_for_serve(
    serve: Serve, replicas: ReplicaSet
) -> None:
    (a,) = await serve.start("a")
    a.free.clear()
    call = asyncio.create_task(replicas.call("infer"))
    await until(lambda: a.calls)
    a.server._server.close()
    replicas._connections["a"].transport.abort()
    with pytest.raises(ConnectionError):
        await call
    serve.waking = [ActorDiedError(), None]
    again = asyncio.create_task(replicas.call("infer"))
    await asyncio.sleep(0.02)
    serve.listed = {}
    await serve.start("b")
    assert await again == "b"


async def test_calls_in_line_are_counted_and_serve_is_asked_for_nobody(
    serve: Serve, replicas: ReplicaSet
) -> None:
    calls = [asyncio.create_task(replicas.call("infer")) for _ in range(3)]
    await until(lambda: serve.woken)
    assert replicas.requests == 3
    assert not serve.counts
    calls[0].cancel()
    await asyncio.sleep(0.01)
    assert not serve.cancelled
    for call in calls[1:]:
        call.cancel()
    await until(lambda: serve.cancelled)
    assert replicas.requests == 0
    await serve.start("a")
    assert await replicas.call("infer") == "a"


async def test_a_replica_too_busy_for_serves_handle_is_found_nevertheless(
    serve: Serve, replicas: ReplicaSet
) -> None:
    serve.answers = False
    call = asyncio.create_task(replicas.call("infer"))
    await until(lambda: serve.woken)
    await serve.start("a")
    assert await asyncio.wait_for(call, 5) == "a"
    await until(lambda: serve.cancelled)


async def test_a_closed_set_ends_what_it_has_and_hangs_up(serve: Serve, replicas: ReplicaSet) -> None:
    (a,) = await serve.start("a")
    a.free.clear()
    call = asyncio.create_task(replicas.call("infer"))
    await until(lambda: a.calls)
    replicas.close()
    assert replicas._connections
    a.free.set()
    assert await call == "a"
    await until(lambda: not replicas._connections and not replicas._maintaining)


async def test_a_model_that_is_not_there_yet_is_loading(serve: Serve, replicas: ReplicaSet) -> None:
    serve.exists = False
    with pytest.raises(ModelNotReady, match="loading"):
        await replicas.call("infer")
    serve.exists = True
    serve.waking = [DeploymentUnavailableError(None)]
    with pytest.raises(DeploymentUnavailableError):
        await replicas.call("infer")
    await serve.start("a")
    assert await replicas.call("infer") == "a"
