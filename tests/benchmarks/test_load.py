"""The load generator against a tiny server, and the workload."""

import asyncio
import hashlib
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from benchmarks import load, workload

Respond = Callable[[bytes, int], bytes]


@contextmanager
def tiny_server(respond: Respond) -> Iterator[tuple[str, list[bytes]]]:
    """Respond to each request's body (and its number) with raw bytes; yield the URL and the bodies it got."""
    got: list[bytes] = []
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"POST /path HTTP/1.1\r\nHost: 127.0.0.1:")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                got.append(await reader.readexactly(length))
                response = respond(got[-1], len(got))
                if not response:
                    break
                for half in (response[:20], response[20:]):  # in two chunks, as networks do
                    writer.write(half)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    ready = threading.Event()
    loop = asyncio.new_event_loop()

    def run() -> None:
        server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        loop.run_forever()
        server.close()
        for writer in connections:
            writer.close()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()

    ports: list[int] = []
    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(5)
    try:
        yield f"http://127.0.0.1:{ports[0]}/path", got
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


def ok(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def posts(url: str, count: int) -> list[bytes]:
    return [load.post(url, b'{"inputs": "%d"}' % index) for index in range(count)]


def test_run_sends_requests_in_turn_and_keeps_responses_by_index() -> None:
    with tiny_server(lambda body, _: ok(b"echo: " + body)) as (url, got):
        run = load.run(url, posts(url, 5), clients=3, seconds=0.3, warm_up=0.1)
    assert set(run.responses) == {0, 1, 2, 3, 4}
    assert all(run.responses[index] == b'echo: {"inputs": "%d"}' % index for index in run.responses)
    each = [got.count(b'{"inputs": "%d"}' % index) for index in range(5)]
    assert max(each) - min(each) <= 1
    assert 0 < len(run.latencies) < len(got), "responses of the warm-up are not counted"
    assert len(run.first_bytes) == len(got)
    assert len(run.completed_at) == len(run.latencies)
    assert not run.failures
    assert not run.outstanding
    assert 0 < run.p(50) <= run.p(99)


def test_run_counts_events_of_chunked_streams() -> None:
    events = [b'data: {"token": %d}\n\n' % index for index in range(4)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)
    stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    with tiny_server(lambda *_: stream) as (url, _):
        run = load.run(url, posts(url, 1), clients=2, seconds=0.2, warm_up=0.0)
    assert run.responses[0] == b"".join(events)
    assert len(run.latencies) * 4 <= run.events <= (len(run.latencies) + 2) * 4
    assert len(run.latencies) > 1, "the connection serves more than one request"


def test_run_raises_on_http_errors() -> None:
    with (
        tiny_server(lambda *_: ok(b"too much", b"503 Service Unavailable")) as (url, _),
        pytest.raises(ConnectionError, match=r"HTTP 503.* 0 good responses"),
    ):
        load.run(url, posts(url, 1), clients=2, seconds=0.5, warm_up=0.0)


def test_run_raises_when_the_server_closes_connections() -> None:
    with (
        tiny_server(lambda *_: b"") as (url, _),
        pytest.raises(ConnectionError, match="connection lost"),
    ):
        load.run(url, posts(url, 1), clients=1, seconds=0.5, warm_up=0.0)


def test_run_raises_when_the_connection_is_refused() -> None:
    with tiny_server(lambda *_: b"") as (url, _):
        pass
    with pytest.raises(ConnectionError, match="ConnectionRefusedError"):
        load.run(url, posts(url, 1), clients=1, seconds=0.5, warm_up=0.0)


def test_run_reports_rare_failures_with_the_responses() -> None:
    def respond(_: bytes, number: int) -> bytes:
        return ok(b"", b"500 Internal Server Error") if number == 50 else ok(b"fine")

    with tiny_server(respond) as (url, _):
        run = load.run(url, posts(url, 1), clients=4, seconds=2.0, warm_up=0.0)
    assert dict(run.failures) == {"HTTP 500": 1}


def test_client_reconnects_after_connection_close() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine"
    with tiny_server(lambda *_: closing) as (url, got):
        run = load.run(url, posts(url, 1), clients=1, seconds=1.0, warm_up=0.0)
    assert len(got) > 1
    assert not run.failures


def test_rate_of_bursts_counts_whole_bursts() -> None:
    bursts = [index + number / 1000 for index in (0.4, 1.4, 2.4) for number in range(32)]
    assert load.Run(64, 3.0, completed_at=bursts).rate == pytest.approx(32)
    assert load.Run(64, 3.0, completed_at=[index / 100 for index in range(300)]).rate == pytest.approx(100)
    assert load.Run(64, 3.0, completed_at=bursts[:32]).rate == pytest.approx(32 / 3)
    one_in_two = [1.0, 1.001, *(1.1 + index / 1000 for index in range(62))]
    assert load.Run(64, 3.0, completed_at=one_in_two).rate == pytest.approx(64 / 3)
    assert load.Run(64, 3.0).rate == 0


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 3), (99, 5), (100, 5)])
def test_percentile(percent: float, value: float) -> None:
    assert load.percentile([5, 3, 1, 4, 2], percent) == value


def test_texts_are_the_same_on_every_machine() -> None:
    words = "\n".join([*workload.texts(300), *workload.vocabulary()])
    digest = "4579d4d0cff0b493"
    assert hashlib.sha256(words.encode()).hexdigest()[:16] == digest, (
        "earlier figures are no longer comparable"
    )
    assert workload.texts(300) == workload.texts(400)[:300]


def test_texts_are_mostly_short_with_a_long_tail() -> None:
    lengths = sorted(len(text.split()) for text in workload.texts(1000))
    assert len(set(workload.texts(1000))) == 1000
    assert 8 <= statistics.median(lengths) <= 11
    assert lengths[0] == 1
    assert lengths[990] > 40
    assert lengths[-1] <= workload.MAX_WORDS


def test_photographs_are_jpegs_of_a_megabyte() -> None:
    (image,) = workload.photographs(1)
    assert image.startswith(b"\xff\xd8")
    assert 900_000 < len(image) < 1_100_000
