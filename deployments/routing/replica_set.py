"""The running replicas of one model, each over a connection: a call goes to the one with the lowest load."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

from deployments.cluster.ray_private import handles as ray_private
from deployments.errors import Overloaded
from deployments.routing.replica_transport import ReplicaTransport
from deployments.routing.serve_handle import ServeHandle
from deployments.transport.client import IncompatibleReplica, ReplicaConnection

log = logging.getLogger("ray.serve")

RETRY_S, MAX_RETRY_S = 0.05, 1.0  # between two attempts to connect to a replica


class ReplicaSet(ReplicaTransport):
    """Takes the list of replicas from Serve's handle, and reports to Serve how many requests each has.

    Where no replica runs, or none of them can be reached, a call of Serve's handle waits until Serve has
    scaled up from zero or restarted one. A call goes to its replica at once, and waits there where the
    replica has `max_ongoing_requests` already.

    A replica may be incompatible: it has another protocol version, or does not listen. While no other one is
    connected, calls go through Serve's handle.
    """

    def __init__(self, model_id: str) -> None:
        super().__init__(model_id)
        self._serve_handle = ServeHandle(model_id)
        self._listed: Mapping[Any, Any] = {}
        self._connections: dict[Any, ReplicaConnection] = {}
        self._maintaining: dict[Any, asyncio.Task[None]] = {}
        self._incompatible: set[Any] = set()
        self._reachable = asyncio.Event()
        self._pinging: asyncio.Task[None] | None = None
        self._waiting = 0  # requests, for a replica
        self._queued_upstream = 0  # requests that the coalescer holds back
        self._reported_queued = 0
        self._closed = False

    async def call(self, method: str, *arguments: Any, num_inputs: int = 1, requests: int = 1) -> Any:
        async with self._connection(requests) as connection:
            return await connection.call(method, *arguments, num_inputs=num_inputs)

    async def stream(self, method: str, *arguments: Any) -> AsyncGenerator[Any, None]:
        async with (
            self._connection(1) as connection,
            aclosing(connection.stream(method, *arguments)) as chunks,
        ):
            async for chunk in chunks:
                yield chunk

    def report_queued(self, requests: int) -> None:
        self._queued_upstream = requests
        self._report_queued()

    def close(self) -> None:
        self._closed = True
        self._disconnect_if_done()

    def _disconnect_if_done(self) -> None:
        if self._closed and not self.requests:
            for connection in self._connections.values():
                connection.transport.close()

    @asynccontextmanager
    async def _connection(self, requests: int) -> AsyncIterator[ReplicaConnection | ServeHandle]:
        """Choose the replica of a call, and count the call as long as it lasts."""
        self.requests += requests
        try:
            replica = self._pick() or await self._wait(requests)
            if replica in self._connections:
                with self._reported(replica, requests):
                    yield self._connections[replica]
            else:
                yield self._serve_handle
        finally:
            self.requests -= requests
            self._disconnect_if_done()

    @contextmanager
    def _reported(self, replica: Any, requests: int) -> Iterator[None]:
        """Report requests to Serve while they last: it does not see those that bypass its handle."""
        handle = self._serve_handle.handle
        ray_private.count_running(handle, replica, requests)
        try:
            yield
        finally:
            ray_private.count_running(handle, replica, -requests)

    def _pick(self) -> Any | None:
        """Return the replica with the lowest load; of equal ones the first, the same for every Router.

        Returns one of another module, or an incompatible one, only if no other is connected, and None if
        there is none at all.
        """
        self._sync_replicas()
        best, best_load = None, (0, 0)
        for replica, facts in list(self._listed.items()):
            connection = self._connections.get(replica)
            if connection is None or connection.closed.is_set():
                continue
            load = int(self._has_other_module(facts)), connection.load
            if best is None or load < best_load:
                best, best_load = replica, load
        return next(iter(self._incompatible), None) if best is None else best

    def modules(self) -> set[str]:
        self._sync_replicas()
        return {module for facts in list(self._listed.values()) if (module := _module_of(facts))}

    def _has_other_module(self, facts: Any) -> bool:
        return self.module_id is not None and _module_of(facts) not in (None, self.module_id)

    def _sync_replicas(self) -> None:
        """Connect to newly listed replicas; stop routing to removed ones."""
        handle = self._serve_handle.handle
        if handle is None or self._closed:
            return
        listed = ray_private.running_replicas(handle)
        if listed is self._listed:
            return
        self._listed = listed
        self._incompatible.intersection_update(list(listed))
        for replica, facts in list(listed.items()):
            if replica not in self._maintaining and replica not in self._incompatible:
                maintaining = self._maintain_connection(replica, facts.replica_metadata)
                self._maintaining[replica] = asyncio.get_running_loop().create_task(maintaining)

    async def _maintain_connection(self, replica: Any, address: dict[str, Any] | None) -> None:
        """Stay connected with a replica, again whenever it breaks, as long as Serve lists the replica."""
        retry_s = RETRY_S
        try:
            while replica in self._listed and not self._closed:
                try:
                    connection = await ReplicaConnection.open(address or {})
                except IncompatibleReplica as reason:
                    self._give_up(replica, reason)
                    return
                except OSError:
                    retry_s = min(2 * retry_s, MAX_RETRY_S)
                else:
                    retry_s = RETRY_S
                    await self._use_until_closed(replica, connection)
                await asyncio.sleep(retry_s)
                self._sync_replicas()
        finally:
            del self._maintaining[replica]

    def _give_up(self, replica: Any, reason: Exception) -> None:
        log.warning("model %s: calls go through Serve's handle: %s (%s)", self._model_id, reason, replica)
        self._incompatible.add(replica)
        self._reachable.set()

    async def _use_until_closed(self, replica: Any, connection: ReplicaConnection) -> None:
        self._connections[replica] = connection
        self._reachable.set()
        self._disconnect_if_done()
        await connection.closed.wait()
        del self._connections[replica]

    async def _wait(self, requests: int) -> Any:
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
        handle = self._serve_handle.handle
        if handle is None or queued == self._reported_queued:
            return
        queued = int(min(queued, ray_private.most_queued(handle)))
        ray_private.count_queued(handle, queued - self._reported_queued)
        self._reported_queued = queued

    def _pinged(self, pinging: "asyncio.Task[None]") -> None:
        if self._pinging is pinging:
            self._pinging = None
        if not pinging.cancelled():
            pinging.exception()  # the requests that wait get it, if any are left

    async def _ping(self) -> None:
        """Wait for a reachable replica, or for an answer to Serve's handle, which makes Serve start one."""
        self._reachable.clear()
        await self._serve_handle.find()
        self._report_queued()
        answered = asyncio.get_running_loop().create_task(self._answer())
        try:
            while not (self._reachable.is_set() or answered.done()):
                self._sync_replicas()  # a replica that is there may be too busy to answer
                await asyncio.wait({answered}, timeout=RETRY_S)
            if answered.done():
                answered.result()
                self._sync_replicas()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._reachable.wait(), RETRY_S)
        finally:
            answered.cancel()

    async def _answer(self) -> None:
        # Where the replica dies or Serve's queue is full, the next ping may find another one, or room.
        with contextlib.suppress(ConnectionError, Overloaded):
            await self._serve_handle.call("ping")


def _module_of(facts: Any) -> str | None:
    """Return the module of a replica; None for a replica of an older version of Roster."""
    return (facts.replica_metadata or {}).get("module_id")
