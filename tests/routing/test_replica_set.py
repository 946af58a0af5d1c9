"""Which replica gets a call, and what happens when replicas come, go and break. Serve is a stand-in."""

import asyncio
import logging
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.errors import ModelNotReady
from deployments.routing import replica_set
from deployments.routing.replica_set import ReplicaSet
from deployments.transport import client
from deployments.transport.connection import PROTOCOL_VERSION
from tests.routing.fake_serve import FakeServe
from tests.waiting import until


@pytest.fixture
async def replicas(serve: FakeServe) -> AsyncIterator[ReplicaSet]:
    found = ReplicaSet("m")
    yield found
    found.close()
    for connection in found._connections.values():
        connection.transport.abort()
    await until(lambda: not found._maintaining)


async def test_first_call_wakes_serve_once_and_waits(serve: FakeServe, replicas: ReplicaSet) -> None:
    calls = [asyncio.create_task(replicas.call("infer")) for _ in range(20)]
    await asyncio.sleep(0.05)
    assert not any(call.done() for call in calls)
    await serve.start("a")
    assert await asyncio.gather(*calls) == ["a"] * 20
    assert serve.pings == 1
    assert await replicas.call("infer") == "a"
    assert serve.pings == 1, "it is known now"


async def test_serve_counts_each_request(serve: FakeServe, replicas: ReplicaSet) -> None:
    await serve.start("a")
    await replicas.call("infer")
    assert [piece async for piece in replicas.stream("stream")] == ["a"]
    assert serve.counts == [("a", 1), ("a", -1)] * 2
    await replicas.call("infer", num_inputs=64, requests=9)
    assert serve.counts[4:] == [("a", 9), ("a", -9)], "of a call that nine share, all nine"
    assert replicas.requests == 0


async def test_serve_counts_queued_requests(serve: FakeServe, replicas: ReplicaSet) -> None:
    replicas.report_queued(3)
    calls = [asyncio.create_task(replicas.call("infer", requests=4)) for _ in range(2)]
    await until(lambda: serve.pings)
    assert sum(serve.queued) == 3 + 8 - 1, "the call that wakes a replica is counted by Serve itself"
    replicas.report_queued(0)
    assert sum(serve.queued) == 7
    await serve.start("a")
    await asyncio.gather(*calls)
    assert sum(serve.queued) == 0


async def test_queued_count_stays_below_serves_limit(serve: FakeServe, replicas: ReplicaSet) -> None:
    serve.most = 5
    calls = [asyncio.create_task(replicas.call("infer")) for _ in range(20)]
    await until(lambda: serve.pings)
    assert sum(serve.queued) == 5, "or Serve would refuse the call that wakes a replica"
    await serve.start("a")
    await asyncio.gather(*calls)
    assert sum(serve.queued) == 0


async def test_wake_is_retried_after_backpressure(serve: FakeServe, replicas: ReplicaSet) -> None:
    serve.pinging.append(BackPressureError(1, 1))
    call = asyncio.create_task(replicas.call("infer"))
    await until(lambda: serve.pings == 2)
    await serve.start("a")
    assert await call == "a"


async def test_least_loaded_replica_is_chosen(serve: FakeServe, replicas: ReplicaSet) -> None:
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


async def test_replica_of_the_needed_module_is_chosen(serve: FakeServe, replicas: ReplicaSet) -> None:
    await serve.start("a", module_id="old")
    await serve.start("b", module_id="new")
    await replicas.call("infer")
    await until(lambda: len(replicas._connections) == 2)
    for module_id, name in [("old", "a"), ("new", "b"), (None, "a"), ("third", "a")]:
        replicas.module_id = module_id
        assert await replicas.call("infer") == name
    assert replicas.modules() == {"old", "new"}


async def test_replica_list_changes_are_followed(serve: FakeServe, replicas: ReplicaSet) -> None:
    (a,) = await serve.start("a")
    a.free.clear()
    under_way = asyncio.create_task(replicas.call("infer"))
    await until(lambda: a.calls)
    serve.listed = {}
    await serve.start("b")
    assert await replicas.call("infer") == "b"
    a.free.set()
    assert await under_way == "a", "what a replica has, it ends"


async def test_broken_connection_is_reopened(serve: FakeServe, replicas: ReplicaSet) -> None:
    await serve.start("a")
    await replicas.call("infer")
    broken = replicas._connections["a"]
    broken.transport.abort()
    await until(lambda: replicas._connections.get("a") not in (None, broken))
    assert await replicas.call("infer") == "a"


async def test_dead_replica_fails_its_calls_and_the_next_waits(
    serve: FakeServe, replicas: ReplicaSet
) -> None:
    (a,) = await serve.start("a")
    a.free.clear()
    call = asyncio.create_task(replicas.call("infer"))
    await until(lambda: a.calls)
    a.server._server.close()
    replicas._connections["a"].transport.abort()
    with pytest.raises(ConnectionError):
        await call
    serve.pinging = [ActorDiedError(), None]
    again = asyncio.create_task(replicas.call("infer"))
    await asyncio.sleep(0.02)
    serve.listed = {}
    await serve.start("b")
    assert await again == "b"


async def test_waiting_calls_are_counted_without_waking_serve(serve: FakeServe, replicas: ReplicaSet) -> None:
    calls = [asyncio.create_task(replicas.call("infer")) for _ in range(3)]
    await until(lambda: serve.pings)
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


async def test_busy_replica_is_found_without_serves_handle(serve: FakeServe, replicas: ReplicaSet) -> None:
    serve.answers = False
    call = asyncio.create_task(replicas.call("infer"))
    await until(lambda: serve.pings)
    await serve.start("a")
    assert await asyncio.wait_for(call, 5) == "a"
    await until(lambda: serve.cancelled)


async def test_closed_replica_set_finishes_calls_and_disconnects(
    serve: FakeServe, replicas: ReplicaSet
) -> None:
    (a,) = await serve.start("a")
    a.free.clear()
    call = asyncio.create_task(replicas.call("infer"))
    await until(lambda: a.calls)
    replicas.close()
    assert replicas._connections
    a.free.set()
    assert await call == "a"
    await until(lambda: not replicas._connections and not replicas._maintaining)


async def test_missing_application_is_reported_as_loading(serve: FakeServe, replicas: ReplicaSet) -> None:
    serve.exists = False
    with pytest.raises(ModelNotReady, match="loading"):
        await replicas.call("infer")
    serve.exists = True
    serve.pinging = [DeploymentUnavailableError(None)]
    with pytest.raises(DeploymentUnavailableError):
        await replicas.call("infer")
    await serve.start("a")
    assert await replicas.call("infer") == "a"


@pytest.fixture
def by_handle(serve: FakeServe) -> list[str]:
    """Return the methods that were called through Serve's handle."""
    called: list[str] = []

    async def answer() -> str:
        return "by handle"

    async def chunks() -> AsyncIterator[str]:
        yield "by handle"

    def method(name: str, *arguments: Any) -> Any:
        called.append(name)
        return chunks() if name == "stream" else answer()

    serve.method = method
    return called


@pytest.mark.parametrize("version", [None, 0, PROTOCOL_VERSION + 1])
async def test_calls_of_a_replica_with_another_protocol_version_go_through_serves_handle(
    serve: FakeServe,
    replicas: ReplicaSet,
    by_handle: list[str],
    version: int | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "ray.serve")
    await serve.start("a", "b", version=version)
    assert await asyncio.wait_for(replicas.call("infer", num_inputs=3), 1) == "by handle"
    assert [chunk async for chunk in replicas.stream("stream")] == ["by handle"]
    assert by_handle == ["infer", "stream"]
    assert (serve.counts, replicas.requests) == ([], 0), "Serve counts calls of its handle itself"
    assert not replicas._maintaining, "it does not try to connect again"
    assert sorted(record.args[2] for record in caplog.records) == ["a", "b"], "once for each replica"


async def test_a_replica_that_does_not_listen_is_called_through_serves_handle(
    serve: FakeServe, replicas: ReplicaSet, by_handle: list[str]
) -> None:
    await serve.start("a")
    serve.listed["a"].replica_metadata = {}
    assert await asyncio.wait_for(replicas.call("infer"), 1) == "by handle"


async def test_a_version_that_only_the_greeting_shows_is_incompatible_too(
    serve: FakeServe, replicas: ReplicaSet, by_handle: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PROTOCOL_VERSION", PROTOCOL_VERSION + 1)
    await serve.start("a", version=PROTOCOL_VERSION + 1)
    assert await asyncio.wait_for(replicas.call("infer"), 1) == "by handle"
    assert not replicas._maintaining


async def test_compatible_replicas_get_the_calls_while_a_model_rolls(
    serve: FakeServe, replicas: ReplicaSet, by_handle: list[str]
) -> None:
    await serve.start("new", version=PROTOCOL_VERSION + 1)
    assert await replicas.call("infer") == "by handle"
    await serve.start("old")
    assert await replicas.call("infer") == "by handle", "it is not connected yet"
    await until(lambda: "old" in replicas._connections)
    assert [await replicas.call("infer") for _ in range(3)] == ["old"] * 3
    serve.listed = {"new": serve.listed["new"]}
    assert await replicas.call("infer") == "by handle"
    serve.listed = {}
    waiting = asyncio.create_task(replicas.call("infer"))
    await asyncio.sleep(0.02)
    assert not waiting.done(), "no replica is there"
    await serve.start("newer")
    assert await waiting == "newer"


async def test_refused_connection_is_not_retried_at_once(
    serve: FakeServe, replicas: ReplicaSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that refuses the connection itself may be restarting: the Router tries again, ever later."""
    monkeypatch.setattr(replica_set, "RETRY_S", 0.01)
    attempts: list[float] = []

    async def refuse(address: Any) -> Any:
        attempts.append(asyncio.get_running_loop().time())
        raise ConnectionRefusedError

    monkeypatch.setattr(client.ReplicaConnection, "open", refuse)
    await serve.start("a")
    call = asyncio.create_task(replicas.call("infer"))
    await until(lambda: len(attempts) == 5)
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert pauses == sorted(pauses) and pauses[-1] > 0.1
    call.cancel()
    replicas.close()
