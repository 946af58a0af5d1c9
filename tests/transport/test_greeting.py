"""Greetings: a replica serves only Routers that know its secret and have its protocol version."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from deployments.transport import client, connection, server
from deployments.transport.client import IncompatibleReplica, ReplicaConnection
from deployments.transport.connection import CALL, GREETING, HEADER, MAGIC, PROTOCOL_VERSION
from tests.transport.conftest import HOST, Address, Target

MESSAGE = HEADER.pack(0, 0, 0, CALL)
AT_ONCE_S = 1.0  # well below `CONNECT_S`


async def exchange(address: Address, *sent: bytes) -> bytes:
    """Everything that the replica answers to these bytes before it closes the connection."""
    reader, writer = await asyncio.open_connection(address["host"], address["port"])
    try:
        for data in sent:
            writer.write(data)
            await asyncio.sleep(0.02)
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def greeting(address: Address, version: int = PROTOCOL_VERSION) -> bytes:
    return GREETING.pack(MAGIC, version) + bytes.fromhex(address["secret"])


async def test_an_address_has_the_protocol_version(address: Address) -> None:
    assert address["version"] == PROTOCOL_VERSION


async def test_a_greeting_may_arrive_byte_by_byte(address: Address, target: Target) -> None:
    reader, writer = await asyncio.open_connection(address["host"], address["port"])
    for byte in greeting(address):
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert GREETING.unpack(await reader.readexactly(GREETING.size)) == (MAGIC, PROTOCOL_VERSION)
    writer.close()


@pytest.mark.parametrize("split", [1, 3, 5, 6, 20, 38])
async def test_a_wrong_secret_is_refused(address: Address, target: Target, split: int) -> None:
    wrong = GREETING.pack(MAGIC, PROTOCOL_VERSION) + bytes(32)
    assert await exchange(address, wrong[:split], wrong[split:] + MESSAGE) == b""
    with pytest.raises(ConnectionError):
        await ReplicaConnection.open({**address, "secret": "00" * 32})
    assert not target.started


async def test_a_router_without_a_version_is_refused_at_once(address: Address) -> None:
    """The first protocol had no version: its Routers send the secret alone."""
    started_at = monotonic()
    assert await exchange(address, bytes.fromhex(address["secret"])) == b""
    assert monotonic() - started_at < AT_ONCE_S


async def test_a_router_of_another_version_gets_the_replicas_version(
    address: Address, target: Target
) -> None:
    started_at = monotonic()
    answer = await exchange(address, greeting(address, PROTOCOL_VERSION + 1))
    assert GREETING.unpack(answer) == (MAGIC, PROTOCOL_VERSION)
    assert monotonic() - started_at < AT_ONCE_S
    assert not target.started


async def test_a_router_without_a_greeting_is_disconnected(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECT_S", 0.05)
    assert await exchange(address, MAGIC[:1]) == b""


@pytest.mark.parametrize("version", [None, PROTOCOL_VERSION + 1])
async def test_a_router_does_not_connect_to_an_address_of_another_version(version: int | None) -> None:
    address = {"host": HOST, "port": 1, "secret": "00" * 32}
    with pytest.raises(IncompatibleReplica):
        await ReplicaConnection.open({**address, **({"version": version} if version else {})})


@pytest.fixture
async def other_server() -> AsyncIterator[tuple[Address, list[bytes]]]:
    """Return a server that answers with the bytes in the list, or closes the connection when it is empty."""
    answers: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(b"".join(answers))
        if not answers:
            writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, HOST, 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield {"host": HOST, "port": port, "secret": "00" * 32, "version": PROTOCOL_VERSION}, answers


@pytest.mark.parametrize("answer", [GREETING.pack(MAGIC, PROTOCOL_VERSION + 1), b"HTTP/1.1 400 Bad Request"])
async def test_a_replica_that_greets_with_another_version_is_incompatible(
    other_server: tuple[Address, list[bytes]], answer: bytes
) -> None:
    address, answers = other_server
    answers.append(answer)
    with pytest.raises(IncompatibleReplica):
        await ReplicaConnection.open(address)


async def test_a_replica_that_closes_the_connection_cannot_be_reached(
    other_server: tuple[Address, list[bytes]],
) -> None:
    with pytest.raises(ConnectionError):
        await ReplicaConnection.open(other_server[0])


async def test_a_replica_that_does_not_greet_cannot_be_reached(
    other_server: tuple[Address, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONNECT_S", 0.05)
    other_server[1].append(MAGIC)
    with pytest.raises(TimeoutError):
        await ReplicaConnection.open(other_server[0])


async def test_a_closed_port_cannot_be_reached(address: Address) -> None:
    with pytest.raises(ConnectionRefusedError):
        await ReplicaConnection.open({**address, "port": 1})


async def test_two_versions_never_exchange_messages(
    address: Address, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Router whose address lies about the version is refused in the greetings."""
    monkeypatch.setattr(client, "PROTOCOL_VERSION", PROTOCOL_VERSION + 1)
    with pytest.raises(IncompatibleReplica, match=f"version {connection.PROTOCOL_VERSION}"):
        await ReplicaConnection.open({**address, "version": PROTOCOL_VERSION + 1})
    assert not target.started
