"""The running replicas of one model, as a Router reaches them: each over a channel, the least busy first."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.cluster.ray_private import handles as ray_private
from deployments.errors import ModelNotReady
from deployments.transport.connection import Channel

AGAIN_S, LONGEST_PAUSE_S = 0.05, 1.0  # between two tries to reach a replica


class ReplicaSet:
    """Knows by Serve's handle which replicas run, and counts for Serve how many requests each has.

    Where none runs, or none that is listed can be reached, a call by the handle waits until Serve has one:
    scaled up from zero, or started again. A call goes to a replica at once, and waits there for its turn
    where the replica has `max_ongoing_requests` already. `requests` are all that have not ended.
    """

    def __init__(self, model_id: str) -> None:
        self.requests = 0
        self._model_id = model_id
        self._handle: DeploymentHandle | None = None
        self._listed: Mapping[Any, Any] = {}
        self._channels: dict[Any, Channel] = {}
        self._keeping: dict[Any, asyncio.Task[None]] = {}
        self._opened = asyncio.Event()
        self._waking: asyncio.Task[None] | None = None
        self._waiting = 0  # requests, for a replica
        self._line = 0  # requests that others keep, until there is room
        self._told_queued = 0
        self._closed = False

    async def call(self, method: str, *arguments: Any, weight: int = 1, requests: int = 1) -> Any:
        """What a replica's method returns. Raises what it raises; `ConnectionError` where the replica dies.

        `weight` is how many inputs it has, `requests` how many of Serve's it stands for. Waits for a replica:
        the caller has a deadline.
        """
        async with self._chosen(requests) as channel:
            return await channel.call(method, *arguments, weight=weight)

    async def stream(self, method: str, *arguments: Any) -> AsyncGenerator[Any, None]:
        """The pieces that a replica's method yields. Waits, and raises, as `call`."""
        async with self._chosen(1) as channel, aclosing(channel.stream(method, *arguments)) as pieces:
            async for piece in pieces:
                yield piece

    def queue(self, requests: int) -> None:
        """So many wait elsewhere to be sent: Serve shall know."""
        self._line = requests
        self._count_queued()

    def close(self) -> None:
        """Look for replicas no more, and hang up when the last call has ended."""
        self._closed = True
        self._hang_up_if_done()

    def _hang_up_if_done(self) -> None:
        if self._closed and not self.requests:
            for channel in self._channels.values():
                channel.transport.close()

    @asynccontextmanager
    async def _chosen(self, requests: int) -> AsyncIterator[Channel]:
        """The channel to the replica that a call goes to, as long as the call lasts."""
        self.requests += requests
        try:
            replica, channel = self._pick() or await self._wait(requests)
            ray_private.count_running(self._handle, replica, requests)
            try:
                yield channel
            finally:
                ray_private.count_running(self._handle, replica, -requests)
        finally:
            self.requests -= requests
            self._hang_up_if_done()

    def _pick(self) -> tuple[Any, Channel] | None:
        """The replica with the least to do; of equal ones the first, which is the same for every Router."""
        self._look()
        best: tuple[Any, Channel] | None = None
        for replica in list(self._listed):
            channel = self._channels.get(replica)
            if channel and not channel.closed.is_set() and (best is None or channel.load < best[1].load):
                best = replica, channel
        return best

    def _look(self) -> None:
        """Begin with replicas that are new in Serve's list; those that have left it are asked no more."""
        if self._handle is None or self._closed:
            return
        listed = ray_private.running_replicas(self._handle)
        if listed is self._listed:
            return
        self._listed = listed
        for replica, facts in list(listed.items()):
            if replica not in self._keeping and facts.replica_metadata:
                keeping = self._keep(replica, facts.replica_metadata)
                self._keeping[replica] = asyncio.get_running_loop().create_task(keeping)

    async def _keep(self, replica: Any, address: dict[str, Any]) -> None:
        """Keep a channel to a replica, another one whenever it breaks, as long as Serve lists the replica."""
        pause_s = AGAIN_S
        try:
            while replica in self._listed and not self._closed:
                try:
                    channel = await Channel.open(**address)
                except OSError:
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                else:
                    pause_s = AGAIN_S
                    self._channels[replica] = channel
                    self._opened.set()
                    self._hang_up_if_done()
                    await channel.closed.wait()
                    del self._channels[replica]
                await asyncio.sleep(pause_s)
                self._look()
        finally:
            del self._keeping[replica]

    async def _wait(self, requests: int) -> tuple[Any, Channel]:
        while not (found := self._pick()):
            if self._waking is None:
                self._waking = asyncio.get_running_loop().create_task(self._wake())
                self._waking.add_done_callback(self._woken)
            self._waiting += requests
            self._count_queued()
            try:
                await asyncio.shield(self._waking)
            finally:
                self._waiting -= requests
                self._count_queued()
                if self._waking and not self._waiting:  # lest Serve goes on starting a replica for nobody
                    self._waking.cancel()
                    self._waking = None
        return found

    def _count_queued(self) -> None:
        # One of those that wait is Serve's own: the call that wakes it.
        queued = self._line + max(self._waiting - 1, 0)
        if self._handle is None or queued == self._told_queued:
            return
        queued = int(min(queued, ray_private.most_queued(self._handle)))
        ray_private.count_queued(self._handle, queued - self._told_queued)
        self._told_queued = queued

    def _woken(self, waking: "asyncio.Task[None]") -> None:
        if self._waking is waking:
            self._waking = None
        if not waking.cancelled():
            waking.exception()  # was told to those who wait, if any still do

    async def _wake(self) -> None:
        """Until a channel is open, or a replica has answered Serve's handle, which has one started."""
        self._opened.clear()
        if self._handle is None:
            self._handle = await self._find()
            self._count_queued()
        response = self._handle.remote()
        answered = asyncio.ensure_future(_wait_for(response))
        try:
            while not (self._opened.is_set() or answered.done()):
                self._look()  # one that is there may be too busy to answer
                await asyncio.wait({answered}, timeout=AGAIN_S)
            if answered.done():
                answered.result()
                self._look()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._opened.wait(), AGAIN_S)
        finally:
            if not answered.done():
                answered.cancel()
                response.cancel()

    async def _find(self) -> DeploymentHandle:
        try:
            handle = await asyncio.to_thread(serve.get_app_handle, self._model_id)
        except RayServeException:
            raise ModelNotReady(f"model {self._model_id!r} is loading") from None
        return handle.options(method_name="wake")


async def _wait_for(response: Any) -> None:
    # There will be another replica, or room in Serve's queue.
    with contextlib.suppress(ActorDiedError, ActorUnavailableError, BackPressureError):
        await response
