"""Generate load: each client sends its next request as soon as it has the response to the last one.

The generator shares the processors with the server that it measures, so it must cost little: requests are
bytes built beforehand, one protocol object serves each connection, the parser is C, no request needs a task.
"""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvloop

SAMPLE = 16  # responses that a run keeps, to compare them with expected ones
DRAIN_S = 15.0  # for responses that are outstanding at the end; they are not counted
RECONNECT_S, BURST_GAP_S, BURST_S = 0.02, 0.01, 0.1
OK = 200


@dataclass
class Run:
    """The responses of one run. Times are in seconds; from `first_bytes` on, warm-up is included."""

    clients: int
    seconds: float
    latencies: list[float] = field(default_factory=list)
    completed_at: list[float] = field(default_factory=list)
    events: int = 0  # server-sent events
    cpu_s: float = 0.0  # the generator's own processor time
    first_bytes: list[float] = field(default_factory=list)  # from a request to its response's first byte
    failures: Counter[str] = field(default_factory=Counter)
    responses: dict[int, bytes] = field(default_factory=dict)  # to the first requests, by their index
    outstanding: int = 0  # requests without a response at the end

    @property
    def rate(self) -> float:
        """Good responses per second, from the end of the first burst to the last response.

        A server with large batches responds in bursts, and the number of bursts within the run is chance.
        Where they span less than half of the seconds, the run is too short for this: all seconds count.
        """
        burst = _burst(self.completed_at)
        elapsed = self.completed_at[-1] - self.completed_at[burst - 1] if self.completed_at else 0.0
        if len(self.completed_at) < 2 * burst + 1 or elapsed < self.seconds / 2:
            return len(self.completed_at) / self.seconds
        return (len(self.completed_at) - burst) / elapsed

    def p(self, percent: float) -> float:
        """Return this percentile of the latencies."""
        return percentile(self.latencies, percent)


def _burst(times: Sequence[float]) -> int:
    """Count the responses of the first burst: small gaps between them, and a short time in all."""
    for index in range(1, len(times)):
        if times[index] - times[index - 1] > BURST_GAP_S or times[index] - times[0] > BURST_S:
            return index
    return len(times)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of the values do not exceed. Raises `ValueError` for none."""
    if not values:
        raise ValueError("no responses")
    return sorted(values)[min(int(len(values) * percent / 100), len(values) - 1)]


def post(url: str, body: bytes, content_type: str = "application/json") -> bytes:
    """Return one HTTP/1.1 request as it goes over the wire."""
    parts = urlsplit(url)
    head = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
    return f"{head}Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def run(url: str, requests: Sequence[bytes], clients: int, seconds: float, warm_up: float = 1.0) -> Run:
    """Send `requests` in turn, again and again: for `warm_up` seconds unmeasured, then for `seconds`.

    Raises `ConnectionError` when more than one request in a hundred fails, or there is no response at all.
    """
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(_Load(url, requests, Run(clients, seconds)).run(warm_up))
    finally:
        gc.enable()
    failed, good = sum(result.failures.values()), len(result.latencies)
    if failed > good / 100 or not (result.first_bytes or failed):
        counts = f"{dict(result.failures)}, {good} good responses, {result.outstanding} outstanding"
        raise ConnectionError(f"{url}: {counts}")
    return result


class _Load:
    def __init__(self, url: str, requests: Sequence[bytes], result: Run) -> None:
        parts = urlsplit(url)
        self.address = parts.hostname or "127.0.0.1", parts.port or 80
        self.requests, self.result, self.turn = requests, result, count()
        self.connections: set[_Connection] = set()

    async def run(self, warm_up: float) -> Run:
        self.begin = time.perf_counter() + warm_up
        self.end = self.begin + self.result.seconds
        clients = [asyncio.create_task(self.client()) for _ in range(self.result.clients)]
        await asyncio.sleep(self.begin - time.perf_counter())
        cpu = time.process_time()
        await asyncio.sleep(self.end - time.perf_counter())
        self.result.cpu_s = time.process_time() - cpu
        await asyncio.wait(clients, timeout=DRAIN_S)
        for connection in list(self.connections):
            connection.abort()
        await asyncio.gather(*clients)
        return self.result

    async def client(self) -> None:
        """Keep one connection open until the end; reconnect when it closes early."""
        loop = asyncio.get_running_loop()
        while time.perf_counter() < self.end:
            try:
                _, connection = await loop.create_connection(lambda: _Connection(self), *self.address)
                await connection.closed
            except OSError as error:
                self.result.failures[type(error).__name__] += 1
            await asyncio.sleep(RECONNECT_S)


class _Connection(asyncio.Protocol):
    """One client. The parser calls the methods that begin with `on_`."""

    def __init__(self, load: _Load) -> None:
        self.load, self.result = load, load.result
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.parser = httptools.HttpResponseParser(self)
        self.load.connections.add(self)
        self.send()

    def send(self) -> None:
        turn = next(self.load.turn)
        self.body: list[bytes] | None = [] if turn < SAMPLE else None
        self.index = turn % len(self.load.requests)
        self.has_body = False
        self.sent_at = time.perf_counter()  # 0 when no response is outstanding
        self.transport.write(self.load.requests[self.index])

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_body(self, chunk: bytes) -> None:
        now = time.perf_counter()
        if not self.has_body:
            self.has_body = True
            self.result.first_bytes.append(now - self.sent_at)
        if self.load.begin <= now < self.load.end:
            self.result.events += chunk.count(b"data:")
        if self.body is not None:
            self.body.append(chunk)

    def on_message_complete(self) -> None:
        now, status = time.perf_counter(), self.parser.get_status_code()
        if status != OK:
            self.result.failures[f"HTTP {status}"] += 1
        elif self.load.begin <= now < self.load.end:
            self.result.latencies.append(now - self.sent_at)
            self.result.completed_at.append(now)
        if self.body is not None and status == OK:
            self.result.responses.setdefault(self.index, b"".join(self.body))
        if now < self.load.end and self.parser.should_keep_alive():
            self.send()
        else:
            self.sent_at = 0.0
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self.sent_at:
            self.result.failures["connection lost"] += 1
        self.load.connections.discard(self)
        self.closed.set_result(None)

    def abort(self) -> None:
        self.result.outstanding += 1
        self.sent_at = 0.0
        self.transport.abort()
