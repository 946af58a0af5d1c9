"""The Router's end of a connection with a replica."""

import asyncio
import pickle
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import Any

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
    PROTOCOL_VERSION,
    STREAM,
    STREAM_WINDOW,
    Connection,
)

CREDIT_CHUNKS = STREAM_WINDOW // 2  # that a Router grants at a time
REMOTE_LOAD_VALID_S = 1.0  # what other Routers have at the replica changes fast

Receiver = Callable[[int, Any], None]


class IncompatibleReplica(Exception):
    """A replica that this Router cannot connect with, now or later: it has another protocol version."""


@dataclass(eq=False, slots=True)
class _Call:
    receiver: Receiver
    num_inputs: int
    sent: bool = False


class ReplicaConnection(Connection):
    """Calls a replica's methods, many at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = asyncio.Event()
        self._local_load = self._remote_load = 0
        self._remote_load_at = 0.0
        self._numbers = count()
        self._calls: dict[int, _Call] = {}
        self._replica_version: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, address: Mapping[str, Any]) -> "ReplicaConnection":
        """Connect to an address that `ReplicaServer.open` returned.

        Raises `IncompatibleReplica`, or `OSError`, of which `TimeoutError` is a subclass.
        """
        _check_version(address.get("version"))
        async with asyncio.timeout(CONNECT_S):
            host, port = address["host"], address["port"]
            _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
            try:
                await connection._exchange_greetings(bytes.fromhex(address["secret"]))
            except BaseException:
                connection.transport.abort()
                raise
        return connection

    async def _exchange_greetings(self, secret: bytes) -> None:
        self.transport.write(GREETING.pack(MAGIC, PROTOCOL_VERSION) + secret)
        _check_version(await self._replica_version)

    def read_greeting(self) -> None:
        if len(self._received) < GREETING.size or self._replica_version.done():
            return
        magic, version = GREETING.unpack_from(self._received)
        del self._received[: GREETING.size]
        self.greeted = (magic, version) == (MAGIC, PROTOCOL_VERSION)
        self._replica_version.set_result(version if magic == MAGIC else -1)

    @property
    def load(self) -> int:
        """The number of inputs that the replica has: of this Router, and of others by its last report."""
        recent = monotonic() - self._remote_load_at < REMOTE_LOAD_VALID_S
        return self._local_load + (self._remote_load if recent else 0)

    async def call(self, method: str, *arguments: Any, num_inputs: int = 1) -> Any:
        """Return what the method returns. Raises what it raises; `ConnectionError` when the replica has gone.

        Waits while the replica has no room for the call. Cancelling ends the work on the replica.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def receive(message_type: int, value: Any) -> None:
            if future.done():
                return
            if message_type == FAILURE:
                future.set_exception(value)
            else:
                future.set_result(value)

        number = self._register(receive, num_inputs)
        try:
            await self._send_call(CALL, number, method, arguments)
            return await future
        finally:
            self._leave(number)

    async def stream(self, method: str, *arguments: Any) -> AsyncGenerator[Any, None]:
        """Yield the chunks that the method yields. Waits, and raises, as `call`; closing ends the work.

        The replica is at most `STREAM_WINDOW` chunks ahead.
        """
        received: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        number = self._register(lambda *message: received.put_nowait(message), 1)
        try:
            await self._send_call(STREAM, number, method, arguments)
            for position in count(1):
                message_type, value = await received.get()
                if message_type == FAILURE:
                    raise value
                if message_type == END:
                    return
                yield value
                if position % CREDIT_CHUNKS == 0 and number in self._calls:
                    self.send_now(CREDIT, number, CREDIT_CHUNKS)
        finally:
            self._leave(number)

    def _register(self, receiver: Receiver, num_inputs: int) -> int:
        """Give a call a number, and pass the responses to it to `receiver`."""
        if self.closed.is_set():
            raise ConnectionError("the replica has gone")
        number = next(self._numbers) & 0xFFFFFFFF
        self._calls[number] = _Call(receiver, num_inputs)
        self._local_load += num_inputs
        return number

    async def _send_call(self, message_type: int, number: int, method: str, arguments: Any) -> None:
        call = self._calls[number]
        await self.send(message_type, number, call.num_inputs, (method, arguments))
        call.sent = True

    def _leave(self, number: int) -> None:
        """Cancel the call on the replica if it has not ended."""
        if number in self._calls and self._forget(number).sent:
            self.send_now(CANCEL, number, 0)

    def _forget(self, number: int) -> "_Call":
        call = self._calls.pop(number)
        self._local_load -= call.num_inputs
        return call

    def receive(self, message_type: int, number: int, count: int, body: bytes) -> None:
        if number not in self._calls:  # it was cancelled
            return
        call = self._calls[number] if message_type == CHUNK else self._forget(number)
        try:
            value = pickle.loads(body)
        except Exception as error:
            message_type, value = FAILURE, error
        self._remote_load, self._remote_load_at = max(count - self._local_load, 0), monotonic()
        call.receiver(message_type, value)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.closed.set()
        if not self._replica_version.done():
            self._replica_version.set_exception(ConnectionError("the replica closed the connection"))
        for number in list(self._calls):
            self._forget(number).receiver(FAILURE, ConnectionError("the replica has gone"))


def _check_version(version: int | None) -> None:
    if version != PROTOCOL_VERSION:
        name = "no connections" if version is None else f"protocol version {version}"
        raise IncompatibleReplica(f"the replica has {name}, this Router has version {PROTOCOL_VERSION}")
