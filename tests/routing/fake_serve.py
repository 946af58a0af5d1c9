"""Stands for Ray Serve: a handle whose calls reach replicas in this process, and the counts that it gets."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from ray.serve.exceptions import RayServeException

from deployments.transport.server import ReplicaServer
from tests.waiting import until


@asynccontextmanager
async def ongoing(method: str) -> AsyncIterator[None]:
    yield


class FakeReplica:
    """Listens like a replica; `infer` waits while it is not `free`."""

    def __init__(self, name: str) -> None:
        self.name, self.calls = name, 0
        self.free = asyncio.Event()
        self.free.set()
        self.server = ReplicaServer(self, ongoing)

    async def infer(self) -> str:
        self.calls += 1
        await self.free.wait()
        return self.name

    async def stream(self) -> AsyncGenerator[str, None]:
        yield self.name


class FakeServe:
    """`pinging` holds what the next pings raise, or None; else they wait for a replica, if it `answers`.

    `method` is what all other methods do: a function of the method's name and its arguments.
    """

    def __init__(self) -> None:
        self.listed: dict[str, Any] = {}
        self.counts: list[tuple[str, int]] = []
        self.queued: list[int] = []
        self.most = 1000
        self.pinging: list[Exception | None] = []
        self.pings = 0
        self.exists = self.answers = True
        self.cancelled = 0
        self.started: list[FakeReplica] = []
        self.method: Callable[..., Any] | None = None

    def get_app_handle(self, name: str) -> "FakeHandle":
        if not self.exists:
            raise RayServeException("no such application")
        return FakeHandle(self, follows=False)

    def running_replicas(self, handle: "FakeHandle") -> dict[str, Any]:
        assert handle.follows
        return self.listed

    def count_running(self, handle: "FakeHandle", replica: str, by: int) -> None:
        assert handle.follows
        self.counts.append((replica, by))

    def most_queued(self, handle: "FakeHandle") -> int:
        assert handle.follows
        return self.most

    def count_queued(self, handle: "FakeHandle", by: int) -> None:
        assert handle.follows
        self.queued.append(by)

    async def ping(self) -> None:
        await until(lambda: self.pinging or (self.listed and self.answers))
        if self.pinging and (error := self.pinging.pop(0)):
            raise error

    async def start(self, *names: str, **metadata: Any) -> list[FakeReplica]:
        """Start replicas and list them, with `metadata` in place of what they say of themselves."""
        replicas = [FakeReplica(name) for name in names]
        for replica in replicas:
            await self.list(replica, **metadata)
        return replicas

    async def list(self, replica: FakeReplica, **metadata: Any) -> None:
        self.started.append(replica)
        address = {**await replica.server.open("127.0.0.1"), **metadata}
        self.listed = {**self.listed, replica.name: SimpleNamespace(replica_metadata=address)}

    async def stop(self) -> None:
        for replica in self.started:
            replica.server._server.close()
        await asyncio.sleep(0.01)  # the loop calls `connection_lost` in its next rounds


class FakeHandle:
    """A DeploymentHandle. It `follows` the replicas once `options` has been called."""

    def __init__(self, serve: FakeServe, method: str = "", follows: bool = True) -> None:
        self.serve, self.method, self.follows = serve, method, follows

    def options(self, method_name: str = "", stream: bool = False) -> "FakeHandle":
        return FakeHandle(self.serve, method_name)

    def remote(self, *arguments: Any) -> "FakeResponse":
        if self.method == "ping":
            self.serve.pings += 1
            return FakeResponse(self.serve, self.serve.ping())
        assert self.serve.method is not None, f"`{self.method}` went through Serve's handle"
        return FakeResponse(self.serve, self.serve.method(self.method, *arguments))


class FakeResponse:
    """A DeploymentResponse, or a DeploymentResponseGenerator."""

    def __init__(self, serve: FakeServe, result: Any) -> None:
        self.serve, self.result = serve, result

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result.__await__()

    async def __anext__(self) -> Any:
        return await anext(self.result)

    def __aiter__(self) -> "FakeResponse":
        return self

    def cancel(self) -> None:
        self.serve.cancelled += 1
        if isinstance(self.result, asyncio.Task):
            self.result.cancel()
