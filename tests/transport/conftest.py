"""Both ends of real connections in one process: a target, its server, and a Router's connection with it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deployments.errors import InvalidInput
from deployments.transport.client import ReplicaConnection
from deployments.transport.server import ReplicaServer

HOST = "127.0.0.1"
Address = dict[str, Any]


class Unreadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return (int, ("no number",))


class Target:
    """Stands for a Replica: it writes down which calls have started and ended."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.go = asyncio.Event()

    async def infer(self, text: str) -> str:
        self.started.append(text)
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

    async def unreadable(self) -> AsyncGenerator[Any, None]:
        try:
            while True:
                yield Unreadable()
                await asyncio.sleep(0.001)
        finally:
            self.ended.append("unreadable")

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
def target() -> Target:
    return Target()


@pytest.fixture
async def address(target: Target) -> AsyncIterator[Address]:
    server = ReplicaServer(target, ongoing)
    yield await server.open(HOST)
    server._server.close()
    await asyncio.sleep(0.01)  # the loop calls `connection_lost` in its next rounds


@pytest.fixture
async def connection(address: Address) -> AsyncIterator[ReplicaConnection]:
    connection = await ReplicaConnection.open(address)
    yield connection
    connection.transport.close()
    await asyncio.wait_for(connection.closed.wait(), 5)
