"""The running replicas of one model, each over a connection: a call goes to the one with the lowest load."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.cluster import ray_private
from deployments.errors import ModelNotReady
from deployments.transport.client import ReplicaConnection

RETRY_S, MAX_RETRY_S = 0.05, 1.0  # between two attempts to connect to a replica


class ReplicaSet:
    """Takes the list of replicas from Serve's handle, and reports to Serve how many requests each has.

    Where no replica runs, or none of them can be reached, a call of Serve's handle waits until Serve has
    scaled up from zero or restarted one. A call goes to its replica at once, and waits there where the
    replica has `max_ongoing_requests` already. `requests` counts all that have not ended.
    """

    def __init__(self, model_id: str) -> None:
        self.requests = 0
        self._model_id = model_id
        self._handle: DeploymentHandle | None = None
        self._listed: Mapping[Any, Any] = {}
        self._connections: dict[Any, ReplicaConnection] = {}
        self._maintaining: dict[Any, asyncio.Task[None]] = {}
        self._connected = asyncio.Event()
        self._pinging: asyncio.Task[None] | None = None
        self._waiting = 0  # requests, for a replica
        self._queued_upstream = 0  # requests that the coalescer holds back
        self._reported_queued = 0
        self._closed = False

    async def call(self, method: str, *arguments: Any, num_inputs: int = 1, requests: int = 1) -> Any:
        """Return what a replica's method returns. Raises what it raises; `ConnectionError` if it dies.

        The call has so many inputs, and stands for so many of Serve's requests. It waits for a replica: the
        caller sets a deadline.
        """
        async with self._connection(requests) as connection:
            return await connection.call(method, *arguments, num_inputs=num_inputs)

    async def stream(self, method: str, *arguments: Any) -> AsyncGenerator[Any, None]:
        """Yield the chunks that a replica's method yields. Waits, and raises, as `call`."""
        async with (
            self._connection(1) as connection,
            aclosing(connection.stream(method, *arguments)) as chunks,
        ):
            async for chunk in chunks:
                yield chunk

    def report_queued(self, requests: int) -> None:
        """Report to Serve that so many requests wait elsewhere to be sent."""
        self._queued_upstream = requests
        self._report_queued()

    def close(self) -> None:
        """Follow the replicas no longer, and disconnect when the last call has ended."""
        self._closed = True
        self._disconnect_if_done()

    def _disconnect_if_done(self) -> None:
        if self._closed and not self.requests:
            for connection in self._connections.values():
                connection.transport.close()

    @asynccontextmanager
    async def _connection(self, requests: int) -> AsyncIterator[ReplicaConnection]:
        """Choose the replica of a call, and count the call as long as it lasts."""
        self.requests += requests
        try:
            replica, connection = self._pick() or await self._wait(requests)
            ray_private.count_running(self._handle, replica, requests)
            try:
                yield connection
            finally:
                ray_private.count_running(self._handle, replica, -requests)
        finally:
            self.requests -= requests
            self._disconnect_if_done()

    def _pick(self) -> tuple[Any, ReplicaConnection] | None:
        """Return the replica with the lowest load; of equal ones the first, the same for every Router."""
        self._sync_replicas()
        best: tuple[Any, ReplicaConnection] | None = None
        for replica in list(self._listed):
            connection = self._connections.get(replica)
            if (
                connection
                and not connection.closed.is_set()
                and (best is None or connection.load < best[1].load)
            ):
                best = replica, connection
        return best

    def _sync_replicas(self) -> None:
        """Connect to newly listed replicas; stop routing to removed ones."""
        if self._handle is None or self._closed:
            return
        listed = ray_private.running_replicas(self._handle)
        if listed is self._listed:
            return
        self._listed = listed
        for replica, facts in list(listed.items()):
            if replica not in self._maintaining and facts.replica_metadata:
                maintaining = self._maintain_connection(replica, facts.replica_metadata)
                self._maintaining[replica] = asyncio.get_running_loop().create_task(maintaining)

    async def _maintain_connection(self, replica: Any, address: dict[str, Any]) -> None:
        """Stay connected with a replica, again whenever it breaks, as long as Serve lists the replica."""
        retry_s = RETRY_S
        try:
            while replica in self._listed and not self._closed:
                try:
                    connection = await ReplicaConnection.open(**address)
                except OSError:
                    retry_s = min(2 * retry_s, MAX_RETRY_S)
                else:
                    retry_s = RETRY_S
                    await self._use_until_closed(replica, connection)
                await asyncio.sleep(retry_s)
                self._sync_replicas()
        finally:
            del self._maintaining[replica]

    async def _use_until_closed(self, replica: Any, connection: ReplicaConnection) -> None:
        self._connections[replica] = connection
        self._connected.set()
        self._disconnect_if_done()
        await connection.closed.wait()
        del self._connections[replica]

    async def _wait(self, requests: int) -> tuple[Any, ReplicaConnection]:
        while not (found := self._pick()):
            if self._pinging is None:
                self._pinging = asyncio.get_running_loop().create_task(self._ping())
                self._pinging.add_done_callback(self._pinged)
            self._waiting += requests
            self._report_queued()
            try:
                await asyncio.shield(self._pinging)
            finally:
                self._waiting -= requests
                self._report_queued()
                if self._pinging and not self._waiting:  # or Serve starts a replica that no request needs
                    self._pinging.cancel()
                    self._pinging = None
        return found

    def _report_queued(self) -> None:
        # Serve counts one of those that wait itself: the ping.
        queued = self._queued_upstream + max(self._waiting - 1, 0)
        if self._handle is None or queued == self._reported_queued:
            return
        queued = int(min(queued, ray_private.most_queued(self._handle)))
        ray_private.count_queued(self._handle, queued - self._reported_queued)
        self._reported_queued = queued

    def _pinged(self, pinging: "asyncio.Task[None]") -> None:
        if self._pinging is pinging:
            self._pinging = None
        if not pinging.cancelled():
            pinging.exception()  # the requests that wait get it, if any are left

    async def _ping(self) -> None:
        """Wait for a connection, or for a replica's answer to Serve's handle, which makes Serve start one."""
        self._connected.clear()
        if self._handle is None:
            self._handle = await self._find_handle()
            self._report_queued()
        response = self._handle.remote()
        answered = asyncio.ensure_future(_wait_for(response))
        try:
            while not (self._connected.is_set() or answered.done()):
                self._sync_replicas()  # a replica that is there may be too busy to answer
                await asyncio.wait({answered}, timeout=RETRY_S)
            if answered.done():
                answered.result()
                self._sync_replicas()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._connected.wait(), RETRY_S)
        finally:
            if not answered.done():
                answered.cancel()
                response.cancel()

    async def _find_handle(self) -> DeploymentHandle:
        try:
            handle = await asyncio.to_thread(serve.get_app_handle, self._model_id)
        except RayServeException:
            raise ModelNotReady(f"model {self._model_id!r} is loading") from None
        return handle.options(method_name="ping")


async def _wait_for(response: Any) -> None:
    # There will be another replica, or room in Serve's queue.
    with contextlib.suppress(ActorDiedError, ActorUnavailableError, BackPressureError):
        await response
