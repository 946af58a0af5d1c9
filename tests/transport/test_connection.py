"""Calls over real sockets between a Router's end and a replica's, in one process."""

import asyncio
import contextlib
import pickle
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from deployments.errors import Internal, InvalidInput, Overloaded
from deployments.transport import connection as module
from deployments.transport.connection import Channel, Listener
from tests.waiting import until

HOST = "127.0.0.1"
Address = dict[str, Any]


class Unreadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return (int, ("no number",))


class Servant:
    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.go = asyncio.Event()

    async def infer(self, text: str) -> str:
        self.begun.append(text)
        try:
            if text.startswith("wait"):
                await self.go.wait()
        finally:
            self.ended.append(text)
        return text.upper()

    async def fail(self, error: BaseException) -> None:
        raise error

    async def give(self) -> Any:
        return lambda: "no pickle holds this"

    async def stream(self, count: int) -> AsyncGenerator[int, None]:
        try:
            for number in range(count):
                yield number
                await asyncio.sleep(0.001)
            if count == 3:
                raise InvalidInput("three")
        finally:
            self.ended.append("stream")


@asynccontextmanager
async def ongoing(method: str) -> AsyncIterator[None]:
    yield


@pytest.fixture
def servant() -> Servant:
    return Servant()


@pytest.fixture
async def address(servant: Servant) -> AsyncIterator[Address]:
    listener = Listener(servant, ongoing)
    yield await listener.open(HOST)
    listener._server.close()
    await asyncio.sleep(0.01)  # what is closed is told in the next rounds of the loop


@pytest.fixture
async def channel(address: Address) -> AsyncIterator[Channel]:
    channel = await Channel.open(**address)
    yield channel
    channel.transport.close()
    await asyncio.wait_for(channel.closed.wait(), 5)


async def test_many_calls_at_a_time_each_get_their_own_answer(channel: Channel, servant: Servant) -> None:
    first = asyncio.create_task(channel.call("infer", "wait"))
    await until(lambda: servant.begun)
    assert await asyncio.gather(*(channel.call("infer", f"a{n}") for n in range(50))) == [
        f"A{n}" for n in range(50)
    ]
    servant.go.set()
    assert await first == "WAIT"


async def test_what_is_large_comes_whole(channel: Channel) -> None:
    large = "ab" * 4_000_000
    assert await asyncio.gather(*(channel.call("infer", large + str(n)) for n in range(3))) == [
        large.upper() + str(n) for n in range(3)
    ]


async def test_our_errors_come_as_they_are_and_others_are_not_quoted(channel: Channel) -> None:
    with pytest.raises(Overloaded, match="full") as told:
        await channel.call("fail", Overloaded("full", retry_after=3.0))
    assert told.value.retry_after == 3.0
    with pytest.raises(Internal) as hidden:
        await channel.call("fail", ValueError("secret"))
    assert "secret" not in str(hidden.value)
    with pytest.raises(Internal):
        await channel.call("nothing_of_this_name")


async def test_nobody_waits_for_what_cannot_be_read_or_sent(channel: Channel, servant: Servant) -> None:
    with pytest.raises(Internal, match="cannot be sent"):
        await asyncio.wait_for(channel.call("give"), 5)
    with pytest.raises(Internal):
        await asyncio.wait_for(channel.call("fail", asyncio.CancelledError()), 5)
    with pytest.raises(Internal):
        await asyncio.wait_for(channel.call("infer", Unreadable()), 5)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        await channel.call("infer", lambda: None)
    assert await channel.call("infer", "a") == "A"
    assert channel.load == 0


async def test_pieces_stream_and_an_error_ends_them(channel: Channel) -> None:
    async with aclosing(channel.stream("stream", 4)) as pieces:
        assert [piece async for piece in pieces] == [0, 1, 2, 3]
    pieces = channel.stream("stream", 3)
    assert [await anext(pieces) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InvalidInput, match="three"):
        await anext(pieces)


async def test_who_leaves_ends_the_work(channel: Channel, servant: Servant) -> None:
    call = asyncio.create_task(channel.call("infer", "wait"))
    await until(lambda: servant.begun)
    call.cancel()
    await until(lambda: servant.ended == ["wait"])
    pieces = channel.stream("stream", 1_000_000)
    assert await anext(pieces) == 0
    await pieces.aclose()
    await until(lambda: servant.ended == ["wait", "stream"])
    assert channel.load == 0
    at_once = asyncio.create_task(channel.call("infer", "wait at once", weight=0))
    await asyncio.sleep(0)
    at_once.cancel()  # call and cancellation arrive together
    assert await channel.call("infer", "a") == "A"
    assert servant.begun.count("wait at once") == servant.ended.count("wait at once")


async def test_a_replica_that_goes_fails_what_is_under_way(channel: Channel, servant: Servant) -> None:
    call = asyncio.create_task(channel.call("infer", "wait"))
    await until(lambda: servant.begun)
    channel.transport.abort()
    with pytest.raises(ConnectionError):
        await call
    with pytest.raises(ConnectionError):
        await channel.call("infer", "a")
    await until(lambda: servant.ended == ["wait"])


async def test_a_router_hears_of_the_others_work(
    address: Address, servant: Servant, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await Channel.open(**address), await Channel.open(**address)
    busy = asyncio.create_task(other.call("infer", "wait", weight=5))
    await until(lambda: servant.begun)
    assert (one.load, other.load) == (0, 5)
    await one.call("infer", "a")
    assert one.load == 5
    monkeypatch.setattr(module, "FRESH_S", 0.0)
    assert one.load == 0, "that may have changed since"
    monkeypatch.undo()
    servant.go.set()
    await busy
    await one.call("infer", "a")
    assert (one.load, other.load) == (0, 0)
    for channel in (one, other):
        channel.transport.close()
        await channel.closed.wait()


@pytest.mark.parametrize("piecewise", [False, True])
async def test_nothing_is_read_from_a_stranger(
    address: Address, servant: Servant, *, piecewise: bool
) -> None:
    wrong = await Channel.open(**{**address, "secret": "00" * 32})
    if piecewise:
        await asyncio.sleep(0.02)
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(wrong.call("infer", "a"), 5)
    assert not servant.begun


async def test_who_never_tells_the_secret_is_sent_away(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONNECT_S", 0.05)
    reader, writer = await asyncio.open_connection(address["host"], address["port"])
    writer.write(b"a")
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_nobody_there_is_told_at_once(address: Address) -> None:
    with pytest.raises(ConnectionRefusedError):
        await Channel.open(HOST, 1, address["secret"])
