"""The running replicas of one model, as a Router reaches them: each over a channel, the least busy first."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deployments import ray_private
from deployments.channel import Channel
from deployments.errors import ModelNotReady

AGAIN_S, LONGEST_PAUSE_S = 0.05, 1.0  # between two tries to reach a replica


class ReplicaSet:
    """Knows by Serve's handle which replicas run, and counts for Serve how many requests each has.

    Where none runs, or none that is listed can be reached, a call by the handle waits until Serve has one:
    scaled up from zero, or started again. `calls` are those under way.
    """

    def __init__(self, model_id: str) -> None:
        self.calls = 0
        self._model_id = model_id
        self._handle: DeploymentHandle | None = None
        self._listed: Mapping[Any, Any] = {}
        self._channels: dict[Any, Channel] = {}
        self._keeping: dict[Any, asyncio.Task[None]] = {}
        self._opened = asyncio.Event()
        self._waking: asyncio.Task[None] | None = None
        self._closed = False

    async def call(self, method: str, *arguments: Any, weight: int = 1) -> Any:
        """What a replica's method returns. Raises what it raises; `ConnectionError` where the replica dies.

        `weight` is how many inputs it has. Waits for a replica: the caller has a deadline.
        """
        replica, channel = self._pick() or await self._wait()
        self._count(replica, 1)
        try:
            return await channel.call(method, *arguments, weight=weight)
        finally:
            self._count(replica, -1)

    async def stream(self, method: str, *arguments: Any) -> AsyncGenerator[Any, None]:
        """The pieces that a replica's method yields. Waits, and raises, as `call`."""
        replica, channel = self._pick() or await self._wait()
        self._count(replica, 1)
        try:
            async with aclosing(channel.stream(method, *arguments)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self._count(replica, -1)

    def close(self) -> None:
        """Look for replicas no more; a channel ends with its replica."""
        self._closed, self._listed = True, {}

    def _count(self, replica: Any, by: int) -> None:
        self.calls += by
        ray_private.count_request(self._handle, replica, by)

    def _pick(self) -> tuple[Any, Channel] | None:
        """The replica with the least to do; of equal ones the first, which is the same for every Router."""
        self._look()
        best: tuple[Any, Channel] | None = None
        for replica in self._listed:
            channel = self._channels.get(replica)
            if channel and (best is None or channel.load < best[1].load):
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
        for replica, facts in listed.items():
            if replica not in self._keeping and facts.replica_metadata:
                keeping = self._keep(replica, facts.replica_metadata)
                self._keeping[replica] = asyncio.get_running_loop().create_task(keeping)

    async def _keep(self, replica: Any, address: dict[str, Any]) -> None:
        """Keep a channel to a replica, another one whenever it breaks, as long as Serve lists the replica."""
        pause_s = AGAIN_S
        try:
            while replica in self._listed:
                try:
                    channel = await Channel.open(**address)
                except OSError:
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                else:
                    pause_s = AGAIN_S
                    self._channels[replica] = channel
                    self._opened.set()
                    await channel.closed.wait()
                    del self._channels[replica]
                self._look()
        finally:
            del self._keeping[replica]

    async def _wait(self) -> tuple[Any, Channel]:
        while not (found := self._pick()):
            if self._waking is None:
                self._waking = asyncio.get_running_loop().create_task(self._wake())
                self._waking.add_done_callback(lambda task: task.cancelled() or task.exception())
            await asyncio.shield(self._waking)
        return found

    async def _wake(self) -> None:
        """Until a replica has answered Serve's handle, which waits for one and has one started."""
        try:
            self._opened.clear()
            if self._handle is None:
                self._handle = await self._find()
            with contextlib.suppress(ActorDiedError, ActorUnavailableError):  # there will be another
                await self._handle.remote()
            self._look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._opened.wait(), AGAIN_S)
        finally:
            self._waking = None

    async def _find(self) -> DeploymentHandle:
        try:
            handle = await asyncio.to_thread(serve.get_app_handle, self._model_id)
        except RayServeException:
            raise ModelNotReady(f"model {self._model_id!r} is loading") from None
        return handle.options(method_name="wake")
