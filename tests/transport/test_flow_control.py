"""What one side does not read, the other does not write: memory stays bounded, and other calls go on."""

import asyncio
import pickle
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from deployments.errors import TimedOut
from deployments.transport import server
from deployments.transport.client import ReplicaConnection
from deployments.transport.connection import (
    CALL,
    CANCEL,
    CREDIT,
    GREETING,
    HEADER,
    MAGIC,
    PROTOCOL_VERSION,
    STREAM,
    STREAM_WINDOW,
    WRITE_BUFFER_BYTES,
)
from tests.transport.conftest import HOST, Address, Target
from tests.waiting import until

SOCKET_BYTES = 64 * 1024  # of a socket's receive buffer, which the kernel may exceed some times
KERNEL_BYTES = 4 * 1024 * 1024  # certainly more than those of both ends
PAYLOAD = bytes(256 * 1024)


class Producer(Target):
    """Counts what its streams produce."""

    def __init__(self) -> None:
        super().__init__()
        self.produced = 0
        self.running = 0

    async def numbers(self, count: int) -> AsyncGenerator[int, None]:
        self.running += 1
        try:
            for number in range(count):
                self.produced += 1
                yield number
        finally:
            self.running -= 1

    async def payloads(self) -> AsyncGenerator[bytes, None]:
        while True:
            self.produced += 1
            yield PAYLOAD

    async def payload(self) -> bytes:
        self.produced += 1
        return PAYLOAD


@pytest.fixture
def target() -> Producer:
    return Producer()


async def at_rest(target: Producer) -> int:
    """How many chunks there are once no more are produced."""
    before = -1
    while before != target.produced:
        before = target.produced
        await asyncio.sleep(0.1)
    return before


async def test_stream_is_bounded_by_its_window(connection: ReplicaConnection, target: Producer) -> None:
    async with aclosing(connection.stream("numbers", 1_000_000)) as chunks:
        assert await anext(chunks) == 0
        assert await at_rest(target) == STREAM_WINDOW + 1
        assert [await anext(chunks) for _ in range(500)] == [*range(1, 501)]
        assert 501 <= await at_rest(target) <= 501 + STREAM_WINDOW + 1
    await until(lambda: not target.running)


async def test_stream_with_a_reader_is_complete(connection: ReplicaConnection, target: Producer) -> None:
    async with aclosing(connection.stream("numbers", 10_000)) as chunks:
        assert [chunk async for chunk in chunks] == [*range(10_000)]
    assert target.produced == 10_000


async def test_slow_reader_does_not_block_other_calls(
    connection: ReplicaConnection, target: Producer
) -> None:
    async with aclosing(connection.stream("payloads")) as slow, aclosing(connection.stream("payloads")):
        await anext(slow)
        await at_rest(target)
        async with aclosing(connection.stream("numbers", 10 * STREAM_WINDOW)) as chunks:
            assert len([chunk async for chunk in chunks]) == 10 * STREAM_WINDOW
        assert await connection.call("infer", "a") == "A"


async def test_stream_without_a_reader_is_ended(
    connection: ReplicaConnection, target: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_STALL_S", 0.05)
    chunks = connection.stream("numbers", 1_000_000)
    assert await anext(chunks) == 0
    await until(lambda: not target.running)
    assert [await anext(chunks) for _ in range(STREAM_WINDOW - 1)] == [*range(1, STREAM_WINDOW)]
    with pytest.raises(TimedOut, match="has read nothing"):
        await anext(chunks)


async def test_stream_with_a_slow_reader_continues(
    connection: ReplicaConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_STALL_S", 1.0)
    count = 0
    async with aclosing(connection.stream("numbers", 4 * STREAM_WINDOW)) as chunks:
        async for _ in chunks:
            count += 1
            await asyncio.sleep(0.005)
    assert count == 4 * STREAM_WINDOW


@pytest.fixture
async def silent_router(address: Address) -> AsyncIterator[asyncio.StreamWriter]:
    """Return a Router that never reads, at the other end of a replica's connection."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
    end.setblocking(False)
    await asyncio.get_running_loop().sock_connect(end, (address["host"], address["port"]))
    reader, writer = await asyncio.open_connection(sock=end)
    writer.write(GREETING.pack(MAGIC, PROTOCOL_VERSION) + bytes.fromhex(address["secret"]))
    await reader.readexactly(GREETING.size)
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    yield writer
    writer.transport.abort()


def message(message_type: int, number: int, count: int, value: Any = None) -> bytes:
    body = pickle.dumps(value)
    return HEADER.pack(len(body), number, count, message_type) + body


async def test_replica_pauses_streams_that_the_router_does_not_read(
    silent_router: asyncio.StreamWriter, target: Producer
) -> None:
    silent_router.write(message(STREAM, 1, 1, ("payloads", ())) + message(CREDIT, 1, 10_000))
    chunks = await at_rest(target)
    assert (chunks - 2) * len(PAYLOAD) <= WRITE_BUFFER_BYTES + KERNEL_BYTES


async def test_replica_bounds_unread_results(
    silent_router: asyncio.StreamWriter, target: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    send_now = server._RouterConnection.send_now

    def record(self: server._RouterConnection, *arguments: Any) -> None:
        send_now(self, *arguments)
        written.append(self.transport.get_write_buffer_size())

    monkeypatch.setattr(server._RouterConnection, "send_now", record)
    for number in range(200):
        silent_router.write(message(CALL, number, 1, ("payload", ())))
    await until(lambda: target.produced == 200)
    await asyncio.sleep(0.05)
    assert WRITE_BUFFER_BYTES < max(written) < WRITE_BUFFER_BYTES + 2 * len(PAYLOAD)
    assert len(written) < 100, "the others wait for room"


class SilentReplica(asyncio.Protocol):
    """A replica that greets, and then reads after `resume_reading`."""

    def __init__(self) -> None:
        self.received = bytearray()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        transport.write(GREETING.pack(MAGIC, PROTOCOL_VERSION))
        transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.received += data

    def messages(self) -> list[int]:
        """Return the types of the messages after the greeting, which takes 38 bytes."""
        types, start = [], 38
        while len(self.received) - start >= HEADER.size:
            size, _, _, message_type = HEADER.unpack_from(self.received, start)
            types.append(message_type)
            start += HEADER.size + size
        return types


@pytest.fixture
async def silent_replica() -> AsyncIterator[tuple[ReplicaConnection, SilentReplica]]:
    replica = SilentReplica()
    listening = await asyncio.get_running_loop().create_server(lambda: replica, HOST, 0)
    port = listening.sockets[0].getsockname()[1]
    address = {"version": PROTOCOL_VERSION, "host": HOST, "port": port, "secret": "00" * 32}
    connection = await ReplicaConnection.open(address)
    yield connection, replica
    connection.transport.abort()
    listening.close()
    await connection.closed.wait()


async def test_calls_wait_while_the_replica_does_not_read(
    silent_replica: tuple[ReplicaConnection, SilentReplica],
) -> None:
    connection, replica = silent_replica
    calls = [asyncio.create_task(connection.call("infer", PAYLOAD)) for _ in range(100)]
    await asyncio.sleep(0.1)
    assert (
        WRITE_BUFFER_BYTES
        < connection.transport.get_write_buffer_size()
        < WRITE_BUFFER_BYTES + 2 * len(PAYLOAD)
    )
    assert connection.load == 100, "so that other replicas get the next calls"
    for call in calls[50:]:
        call.cancel()
    await asyncio.gather(*calls[50:], return_exceptions=True)
    assert connection.load == 50
    replica.transport.resume_reading()
    await until(lambda: len(replica.messages()) == 50)
    assert set(replica.messages()) == {CALL}, "no cancellation of what was never sent"
    calls[0].cancel()
    await until(lambda: replica.messages()[50:] == [CANCEL])
    connection.transport.abort()
    outcomes = await asyncio.gather(*calls[1:50], return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ConnectionError}


async def test_calls_waiting_for_buffer_space_fail_with_the_connection(
    silent_replica: tuple[ReplicaConnection, SilentReplica],
) -> None:
    connection, replica = silent_replica
    calls = [asyncio.create_task(connection.call("infer", PAYLOAD)) for _ in range(100)]
    await asyncio.sleep(0.05)
    replica.transport.abort()
    outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 5)
    assert {type(outcome) for outcome in outcomes} == {ConnectionError}
    assert connection.load == 0
