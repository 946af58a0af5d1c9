"""The replica's end of its connections with Routers."""

import asyncio
import hmac
import logging
import pickle
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

from deployments.errors import InferenceError, Internal, TimedOut
from deployments.transport.connection import (
    CALL,
    CANCEL,
    CHUNK,
    CONNECT_S,
    CREDIT,
    END,
    FAILURE,
    GREETING,
    MAGIC,
    MAX_STALL_S,
    PROTOCOL_VERSION,
    RESULT,
    SECRET_BYTES,
    STREAM,
    STREAM_WINDOW,
    Connection,
)

log = logging.getLogger("ray.serve")

Ongoing = Callable[[str], AbstractAsyncContextManager[None]]


class ReplicaServer:
    """Lets all Routers call the methods of `target`. `ongoing(method)` is entered for each call."""

    def __init__(self, target: Any, ongoing: Ongoing) -> None:
        self.target, self.ongoing = target, ongoing
        self.secret = secrets.token_bytes(SECRET_BYTES)
        self.load = 0

    async def open(self, host: str) -> dict[str, Any]:
        """Listen at an address of this machine. Returns what `ReplicaConnection.open` needs, as JSON."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _RouterConnection(self), host, 0)
        except OSError:  # other machines know this one by an address that none of its interfaces has
            self._server = await loop.create_server(lambda: _RouterConnection(self), "0.0.0.0", 0)
        port = self._server.sockets[0].getsockname()[1]
        return {"version": PROTOCOL_VERSION, "host": host, "port": port, "secret": self.secret.hex()}


class _RouterConnection(Connection):
    """The connection with one Router."""

    def __init__(self, server: ReplicaServer) -> None:
        super().__init__()
        self._server = server
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._credits: dict[int, asyncio.Semaphore] = {}  # of streams

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(CONNECT_S, self._close_if_not_greeted)

    def _close_if_not_greeted(self) -> None:
        if not self.greeted:
            self.transport.abort()

    def read_greeting(self) -> None:
        """Accept the Router, or close the connection as soon as the greeting shows that it must be."""
        if not self._received.startswith(MAGIC[: len(self._received)]):
            self.transport.abort()
        elif len(self._received) >= GREETING.size:
            _, version = GREETING.unpack_from(self._received)
            if version == PROTOCOL_VERSION:
                self._authenticate()
            else:
                self._send_greeting()
                self.transport.close()

    def _authenticate(self) -> None:
        end = GREETING.size + SECRET_BYTES
        if len(self._received) < end:
            return
        if not hmac.compare_digest(self._received[GREETING.size : end], self._server.secret):
            self.transport.abort()
            return
        del self._received[:end]
        self.greeted = True
        self._send_greeting()

    def _send_greeting(self) -> None:
        self.transport.write(GREETING.pack(MAGIC, PROTOCOL_VERSION))

    def receive(self, message_type: int, number: int, count: int, body: bytes) -> None:
        if message_type == CANCEL:
            if task := self._tasks.get(number):
                task.cancel()
        elif message_type == CREDIT:
            if credit := self._credits.get(number):
                for _ in range(count):
                    credit.release()
        else:
            self._start(message_type, number, count, body)

    def _start(self, message_type: int, number: int, num_inputs: int, body: bytes) -> None:
        if message_type == STREAM:
            self._credits[number] = asyncio.Semaphore(STREAM_WINDOW)
        task = asyncio.get_running_loop().create_task(self._serve(message_type, number, num_inputs, body))
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._forget(number))

    def _forget(self, number: int) -> None:
        del self._tasks[number]
        self._credits.pop(number, None)

    async def _serve(self, message_type: int, number: int, num_inputs: int, body: bytes) -> None:
        server = self._server
        server.load += num_inputs
        try:
            response_type, value = await self._execute(message_type, number, body)
        finally:
            server.load -= num_inputs
        try:
            await self.send(response_type, number, server.load, value)
        except Exception:
            log.exception("a replica's response cannot be sent")
            await self.send(FAILURE, number, server.load, Internal("the replica's answer cannot be sent"))

    async def _execute(self, message_type: int, number: int, body: bytes) -> tuple[int, Any]:
        method = ""
        try:
            method, arguments = pickle.loads(body)
            async with self._server.ongoing(method):
                result = getattr(self._server.target, method)(*arguments)
                if message_type == CALL:
                    return RESULT, await result
                async with aclosing(result) as chunks:
                    async for chunk in chunks:
                        await self._send_chunk(number, chunk)
                return END, None
        except InferenceError as error:
            return FAILURE, error
        except (Exception, asyncio.CancelledError):
            if self._tasks[number].cancelling():  # the Router cancelled, not what the method called
                raise
            log.exception("a replica's `%s` failed", method)
            return FAILURE, Internal("the replica failed")

    async def _send_chunk(self, number: int, chunk: Any) -> None:
        credit = self._credits[number]
        if credit.locked():
            await _wait_for_reader(credit)
        else:
            await credit.acquire()
        await self.send(CHUNK, number, self._server.load, chunk)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        for task in list(self._tasks.values()):
            task.cancel()


async def _wait_for_reader(credit: asyncio.Semaphore) -> None:
    try:
        async with asyncio.timeout(MAX_STALL_S):
            await credit.acquire()
    except TimeoutError:
        raise TimedOut(f"the client has read nothing for {MAX_STALL_S:g} seconds") from None
