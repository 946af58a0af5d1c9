"""Calls over real sockets between a Router's end and a replica's, in one process."""

import asyncio
import pickle
from contextlib import aclosing

import pytest

from deployments.errors import Internal, InvalidInput, Overloaded
from deployments.transport import client
from deployments.transport.client import ReplicaConnection
from tests.transport.conftest import Address, Target, Unreadable
from tests.waiting import until


async def test_concurrent_calls_get_their_own_results(connection: ReplicaConnection, target: Target) -> None:
    first = asyncio.create_task(connection.call("infer", "wait"))
    await until(lambda: target.started)
    assert await asyncio.gather(*(connection.call("infer", f"a{n}") for n in range(50))) == [
        f"A{n}" for n in range(50)
    ]
    target.go.set()
    assert await first == "WAIT"


async def test_large_messages_arrive_whole(connection: ReplicaConnection) -> None:
    large = "ab" * 4_000_000
    assert await asyncio.gather(*(connection.call("infer", large + str(n)) for n in range(3))) == [
        large.upper() + str(n) for n in range(3)
    ]


async def test_inference_errors_pass_and_others_are_hidden(connection: ReplicaConnection) -> None:
    with pytest.raises(Overloaded, match="full") as overloaded:
        await connection.call("fail", Overloaded("full", retry_after=3.0))
    assert overloaded.value.retry_after == 3.0
    with pytest.raises(Internal) as hidden:
        await connection.call("fail", ValueError("secret"))
    assert "secret" not in str(hidden.value)
    with pytest.raises(Internal):
        await connection.call("nothing_of_this_name")


async def test_unpicklable_values_fail_the_call(connection: ReplicaConnection, target: Target) -> None:
    with pytest.raises(Internal, match="cannot be sent"):
        await asyncio.wait_for(connection.call("give"), 5)
    with pytest.raises(Internal):
        await asyncio.wait_for(connection.call("fail", asyncio.CancelledError()), 5)
    with pytest.raises(Internal):
        await asyncio.wait_for(connection.call("infer", Unreadable()), 5)
    chunks = connection.stream("unreadable")
    with pytest.raises(ValueError, match="no number"):
        await asyncio.wait_for(anext(chunks), 5)
    await until(lambda: "unreadable" in target.ended)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        await connection.call("infer", lambda: None)
    assert await connection.call("infer", "a") == "A"
    assert connection.load == 0


async def test_stream_error_follows_its_chunks(connection: ReplicaConnection) -> None:
    async with aclosing(connection.stream("stream", 4)) as chunks:
        assert [chunk async for chunk in chunks] == [0, 1, 2, 3]
    chunks = connection.stream("stream", 3)
    assert [await anext(chunks) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InvalidInput, match="three"):
        await anext(chunks)


async def test_cancelled_call_ends_the_work(connection: ReplicaConnection, target: Target) -> None:
    call = asyncio.create_task(connection.call("infer", "wait"))
    await until(lambda: target.started)
    call.cancel()
    await until(lambda: target.ended == ["wait"])
    chunks = connection.stream("stream", 1_000_000)
    assert await anext(chunks) == 0
    await chunks.aclose()
    await until(lambda: target.ended == ["wait", "stream"])
    assert connection.load == 0
    at_once = asyncio.create_task(connection.call("infer", "wait at once", num_inputs=0))
    await asyncio.sleep(0)
    at_once.cancel()  # call and cancellation arrive together
    assert await connection.call("infer", "a") == "A"
    assert target.started.count("wait at once") == target.ended.count("wait at once")


async def test_lost_connection_fails_calls_in_flight(connection: ReplicaConnection, target: Target) -> None:
    call = asyncio.create_task(connection.call("infer", "wait"))
    await until(lambda: target.started)
    connection.transport.abort()
    with pytest.raises(ConnectionError):
        await call
    with pytest.raises(ConnectionError):
        await connection.call("infer", "a")
    await until(lambda: target.ended == ["wait"])


async def test_load_includes_other_routers(
    address: Address, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await ReplicaConnection.open(address), await ReplicaConnection.open(address)
    busy = asyncio.create_task(other.call("infer", "wait", num_inputs=5))
    await until(lambda: target.started)
    assert (one.load, other.load) == (0, 5)
    await one.call("infer", "a")
    assert one.load == 5
    monkeypatch.setattr(client, "REMOTE_LOAD_VALID_S", 0.0)
    assert one.load == 0, "that may have changed since"
    monkeypatch.undo()
    target.go.set()
    await busy
    await one.call("infer", "a")
    assert (one.load, other.load) == (0, 0)
    for connection in (one, other):
        connection.transport.close()
        await connection.closed.wait()
