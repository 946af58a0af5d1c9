"""The load generator: so many clients, each sending its next request as soon as it has its answer.

It shares its processor with what it measures, so it is made to cost little: requests are bytes built
beforehand, one protocol object per connection, answers parsed in C, no task and no future per request.
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

DRAIN_S = 15.0  # for the answers that are still owed when the time is up; they are not counted
RECONNECT_S = 0.02
BURST_GAP_S, BURST_S = 0.01, 0.1
OK = 200


@dataclass
class Run:
    """What came back in the measured seconds. Times are in seconds.

    `latencies` are those of good answers, `done` the points in time at which these were complete.

    `events` counts server-sent events. Of the whole run are `firsts` (from sending to the first piece of a
    body), `failures` (what went wrong, by its name), `answers` (the bodies of the first few requests, by
    their place) and `owed` (requests whose answer had not come some seconds after the end). `cpu_s` is what
    the generator itself took of a processor in the measured seconds.
    """

    clients: int
    seconds: float
    latencies: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    events: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    answers: dict[int, bytes] = field(default_factory=dict)
    owed: int = 0
    cpu_s: float = 0.0

    @property
    def rate(self) -> float:
        """Good answers per second, from the end of the first burst to the last answer.

        A server that works in large batches answers in bursts; how many of them fall between two points in
        time is chance. Where they do not reach over half of the seconds, they tell nothing between them.
        """
        burst = _burst(self.done)
        took = self.done[-1] - self.done[burst - 1] if self.done else 0.0
        if len(self.done) < 2 * burst + 1 or took < self.seconds / 2:
            return len(self.done) / self.seconds
        return (len(self.done) - burst) / took

    @property
    def event_rate(self) -> float:
        return self.events / self.seconds

    @property
    def own_share(self) -> float:
        """Which part of one processor the generator took."""
        return self.cpu_s / self.seconds

    def p(self, percent: float) -> float:
        """The latency, in seconds, that so many percent of the answers did not exceed."""
        return percentile(self.latencies, percent)


def _burst(done: Sequence[float]) -> int:
    """How many answers the first burst has: those that follow each other closely, for a short time."""
    for place in range(1, len(done)):
        if done[place] - done[place - 1] > BURST_GAP_S or done[place] - done[0] > BURST_S:
            return place
    return len(done)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent do not exceed. Raises `ValueError` when there is none."""
    if not values:
        raise ValueError("nothing was answered")
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def post(url: str, body: bytes, content_type: str = "application/json") -> bytes:
    """One HTTP/1.1 request as it goes over the wire."""
    parts = urlsplit(url)
    head = (
        f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def run(
    url: str, requests: Sequence[bytes], clients: int, seconds: float, warm_up: float = 1.0, keep: int = 16
) -> Run:
    """Send `requests` in turn, round and round, for `warm_up` seconds unmeasured and then for `seconds`.

    Raises `ConnectionError` when more than one request in a hundred fails, or nothing came back at all.
    """
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(_Load(url, requests, clients, seconds, warm_up, keep).run())
    finally:
        gc.enable()
    failed = sum(result.failures.values())
    if failed > len(result.latencies) / 100 or not (result.firsts or failed):
        told = f"{dict(result.failures)} beside {len(result.latencies)} good answers, {result.owed} owed"
        raise ConnectionError(f"{url}: {told}")
    return result


class _Load:
    def __init__(
        self, url: str, requests: Sequence[bytes], clients: int, seconds: float, warm_up: float, keep: int
    ) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.requests, self.keep, self.warm_up = requests, keep, warm_up
        self.result = Run(clients, seconds)
        self.turn = count()
        self.open: set[_Connection] = set()
        self.begin = self.end = 0.0

    async def run(self) -> Run:
        self.begin = time.perf_counter() + self.warm_up
        self.end = self.begin + self.result.seconds
        clients = [asyncio.create_task(self.client()) for _ in range(self.result.clients)]
        await asyncio.sleep(self.begin - time.perf_counter())
        cpu = time.process_time()
        await asyncio.sleep(self.end - time.perf_counter())
        self.result.cpu_s = time.process_time() - cpu
        await asyncio.wait(clients, timeout=DRAIN_S)
        for connection in list(self.open):
            connection.give_up()
        await asyncio.gather(*clients)
        return self.result

    async def client(self) -> None:
        """One connection, and another one whenever it goes before the time is up."""
        loop = asyncio.get_running_loop()
        while time.perf_counter() < self.end:
            try:
                _, connection = await loop.create_connection(lambda: _Connection(self), self.host, self.port)
                await connection.closed
            except OSError as error:
                self.result.failures[type(error).__name__] += 1
            await asyncio.sleep(RECONNECT_S)


class _Connection(asyncio.Protocol):
    """One client: its methods that begin with `on_` are called by the parser."""

    def __init__(self, load: _Load) -> None:
        self.load = load
        self.closed = asyncio.get_running_loop().create_future()
        self.sent = 0.0
        self.begun = False
        self.place = 0
        self.body: list[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.parser = httptools.HttpResponseParser(self)
        self.load.open.add(self)
        self.send()

    def send(self) -> None:
        load = self.load
        place = next(load.turn)
        self.body = [] if place < load.keep else None
        self.place = place % len(load.requests)
        self.begun = False
        self.sent = time.perf_counter()
        self.transport.write(load.requests[self.place])

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_body(self, piece: bytes) -> None:
        now = time.perf_counter()
        if not self.begun:
            self.begun = True
            self.load.result.firsts.append(now - self.sent)
        if self.load.begin <= now < self.load.end:
            self.load.result.events += piece.count(b"data:")
        if self.body is not None:
            self.body.append(piece)

    def on_message_complete(self) -> None:
        load, now = self.load, time.perf_counter()
        status = self.parser.get_status_code()
        if status != OK:
            load.result.failures[f"HTTP {status}"] += 1
        elif load.begin <= now < load.end:
            load.result.latencies.append(now - self.sent)
            load.result.done.append(now)
        if self.body is not None and status == OK:
            load.result.answers.setdefault(self.place, b"".join(self.body))
        if now < load.end and self.parser.should_keep_alive():
            self.send()
        else:
            self.sent = 0.0
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self.sent:
            self.load.result.failures["connection lost"] += 1
        self.load.open.discard(self)
        self.closed.set_result(None)

    def give_up(self) -> None:
        self.load.result.owed += 1
        self.sent = 0.0
        self.transport.abort()
