"""The benchmarks' own parts: the load generator against a tiny server, the workload, figures, the report."""

import asyncio
import hashlib
import json
import statistics
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import agreement, findings, load, texts
from benchmarks.findings import Findings, Plot
from benchmarks.report import document
from benchmarks.rounds import between, in_turn, ratio
from benchmarks.server import Server, StartError

Answer = Callable[[bytes, int], bytes]


@contextmanager
def tiny_server(answer: Answer) -> Iterator[tuple[str, list[bytes]]]:
    """Answers each request's body (and its number) with raw bytes; tells its URL and the bodies it got."""
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
                told = answer(got[-1], len(got))
                if not told:
                    break
                for half in (told[:20], told[20:]):  # in two pieces, as networks do
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
    return [load.post(url, b'{"inputs": "%d"}' % place) for place in range(count)]


def test_every_client_asks_in_turn_and_answers_are_kept_by_place() -> None:
    with tiny_server(lambda body, _: ok(b"you said " + body)) as (url, got):
        run = load.run(url, posts(url, 5), clients=3, seconds=0.3, warm_up=0.1, keep=7)
    assert set(run.answers) == {0, 1, 2, 3, 4}
    assert all(run.answers[place] == b'you said {"inputs": "%d"}' % place for place in run.answers)
    each = [got.count(b'{"inputs": "%d"}' % place) for place in range(5)]
    assert max(each) - min(each) <= 1
    assert 0 < len(run.latencies) < len(got), "what came in the warm-up is not counted"
    assert len(run.firsts) == len(got)
    assert len(run.done) == len(run.latencies)
    assert not run.failures
    assert not run.owed
    assert 0 < run.p(50) <= run.p(99)


def test_chunked_streams_are_read_and_their_events_counted() -> None:
    events = [b'data: {"token": %d}\n\n' % place for place in range(4)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)
    stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    with tiny_server(lambda *_: stream) as (url, _):
        run = load.run(url, posts(url, 1), clients=2, seconds=0.2, warm_up=0.0, keep=1)
    assert run.answers[0] == b"".join(events)
    assert len(run.latencies) * 4 <= run.events <= (len(run.latencies) + 2) * 4
    assert len(run.latencies) > 1, "the connection serves more than one request"


def test_a_server_that_fails_is_no_result() -> None:
    with (
        tiny_server(lambda *_: ok(b"too much", b"503 Service Unavailable")) as (url, _),
        pytest.raises(ConnectionError, match=r"HTTP 503.* beside 0 good answers"),
    ):
        load.run(url, posts(url, 1), clients=2, seconds=0.5, warm_up=0.0)


def test_a_server_that_hangs_up_is_no_result() -> None:
    with (
        tiny_server(lambda *_: b"") as (url, _),
        pytest.raises(ConnectionError, match="connection lost"),
    ):
        load.run(url, posts(url, 1), clients=1, seconds=0.5, warm_up=0.0)


def test_a_port_where_nobody_listens_is_no_result() -> None:
    with tiny_server(lambda *_: b"") as (url, _):
        pass
    with pytest.raises(ConnectionError, match="ConnectionRefusedError"):
        load.run(url, posts(url, 1), clients=1, seconds=0.5, warm_up=0.0)


def test_one_failure_among_many_is_told_beside_them() -> None:
    def answer(_: bytes, number: int) -> bytes:
        return ok(b"", b"500 Internal Server Error") if number == 50 else ok(b"fine")

    with tiny_server(answer) as (url, _):
        run = load.run(url, posts(url, 1), clients=4, seconds=2.0, warm_up=0.0)
    assert dict(run.failures) == {"HTTP 500": 1}


def test_a_connection_that_the_server_closes_is_opened_again() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfine"
    with tiny_server(lambda *_: closing) as (url, got):
        run = load.run(url, posts(url, 1), clients=1, seconds=1.0, warm_up=0.0)
    assert len(got) > 1
    assert not run.failures


def test_the_rate_of_a_server_that_answers_in_bursts_is_that_of_whole_bursts() -> None:
    bursts = [place + number / 1000 for place in (0.4, 1.4, 2.4) for number in range(32)]
    assert load.Run(64, 3.0, done=bursts).rate == pytest.approx(32)
    assert load.Run(64, 3.0, done=[place / 100 for place in range(300)]).rate == pytest.approx(100)
    assert load.Run(64, 3.0, done=bursts[:32]).rate == pytest.approx(32 / 3)
    one_in_two = [1.0, 1.001, *(1.1 + place / 1000 for place in range(62))]
    assert load.Run(64, 3.0, done=one_in_two).rate == pytest.approx(64 / 3)
    assert load.Run(64, 3.0).rate == 0


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 3), (99, 5), (100, 5)])
def test_percentiles(percent: float, value: float) -> None:
    assert load.percentile([5, 3, 1, 4, 2], percent) == value


def test_the_workload_is_the_same_everywhere() -> None:
    told = "\n".join([*texts.texts(300), *texts.vocabulary()])
    digest = "4579d4d0cff0b493"
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == digest, "figures from before cannot be compared"
    assert texts.texts(300) == texts.texts(400)[:300]


def test_the_workload_is_mixed_and_mostly_short() -> None:
    lengths = sorted(len(text.split()) for text in texts.texts(1000))
    assert len(set(texts.texts(1000))) == 1000
    assert 8 <= statistics.median(lengths) <= 11
    assert lengths[0] == 1
    assert lengths[990] > 40
    assert lengths[-1] <= texts.MOST_WORDS


def test_photographs_have_a_megabyte() -> None:
    (picture,) = texts.photographs(1)
    assert picture.startswith(b"\xff\xd8")
    assert 900_000 < len(picture) < 1_100_000


def test_what_is_compared_runs_in_turn() -> None:
    order: list[str] = []

    def run(name: str) -> Callable[[], int]:
        return lambda: (order.append(name), len(order))[1]

    assert in_turn(3, {"a": run("a"), "b": run("b")}) == {"a": [1, 4, 5], "b": [2, 3, 6]}
    assert "".join(order) == "abbaab"


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    found = ratio([10, 30, 20], [10, 10, 10])
    assert (found.value, found.least, found.most) == (2, 1, 3)
    with pytest.raises(ValueError, match="shorter"):
        ratio([1, 2], [1])


def test_a_yardstick_that_drifts_is_taken_at_the_time_of_what_is_held_against_it() -> None:
    assert between([10, 8, 6, 4]) == [9, 7, 5]


def test_answers_are_compared_whatever_their_form() -> None:
    labels = [{"label": "B", "score": 0.2}, {"label": "A", "score": 0.8}]
    agreement.require({0: [[0.6, 0.8]], 1: [[*reversed(labels)]]}, [[0.6, 0.8], labels])
    assert agreement.require({0: [1.0, 0.02], 1: [1.0, 0.0]}, [[1.0, 0.0]] * 2, 0.999) == pytest.approx(
        0.9998
    )
    with pytest.raises(agreement.Disagreement, match="answer 1"):
        agreement.require({0: [1.0, 0.0], 1: [0.0, 1.0]}, [[1.0, 0.0], [1.0, 0.0]])
    with pytest.raises(agreement.Disagreement, match="answer 0"):
        agreement.require({0: [1.0, 0.0]}, [[1.0]])
    with pytest.raises(agreement.Disagreement, match="no answer"):
        agreement.require({}, [[1.0]])


def some_findings() -> Findings:
    found = Findings("overhead", "Overhead", when="today", took="1 s")
    found.at_least("fast enough", ratio([6, 7, 9], [10, 10, 10]), 0.6)
    found.at_most("a | b", 1.5, 1.2, "note")
    found.at_least("no goal", 3.0)
    found.unknown("peer", "≥ 2", "it does not install")
    found.beside.append(("rate", "700/s"))
    return found


def test_the_table_tells_goal_measured_and_whether_it_is_met() -> None:
    assert findings.table(some_findings().figures).splitlines()[2:] == [
        "| fast enough | ≥ 0.6 | 0.70 | yes | rounds: 0.60 to 0.90 |",
        "| a / b | ≤ 1.2 | 1.50 | **no** | note |",
        "| no goal |  | 3.00 |  |  |",
        "| peer | ≥ 2 | - |  | it does not install |",
    ]


def test_findings_are_read_as_they_were_saved(tmp_path: Path) -> None:
    found = some_findings()
    found.plot = Plot("p", "x", "y", {"line": [(1, 2.0)]}, {"goal": 0.6})
    found.save(tmp_path / "new" / "f.json")
    read = findings.read(tmp_path / "new" / "f.json")
    assert json.loads(json.dumps(read.__dict__, default=vars)) == json.loads(
        json.dumps(found.__dict__, default=vars)
    )
    assert read.figures == found.figures


def test_the_report_shows_results_before_bare_numbers() -> None:
    found = some_findings()
    found.plot = Plot("A plot", "x", "y", {"line": [(1, 2.0)]})
    broken = findings.failed("peers", "Against its peers", StartError("no memory"))
    told = document([found, broken], "Machine: one.")
    order = ["# Results", "Machine: one.", "## Overhead", "| fast enough |", "bench_overhead.png", "700/s"]
    order += ["## Against its peers", "Not measured: StartError: no memory"]
    assert sorted(order, key=told.index) == order


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    server = Server([sys.executable, "-c", "raise SystemExit('no such model')"], tmp_path / "log", tmp_path)
    with pytest.raises(StartError, match="no such model"):
        server.wait(lambda: False, 10)
    server.close()


def test_a_frozen_server_rests_and_goes_on(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    code = f"import time\nwhile True: time.sleep(0.01); open({str(beat)!r}, 'a').write('.')"
    server = Server([sys.executable, "-c", code], tmp_path / "log", tmp_path)
    try:
        server.wait(beat.exists, 10)
        with server.frozen():
            (top, *_) = server.processes()
            server.wait(lambda: top.status() == "stopped", 5)
            size = beat.stat().st_size
            threading.Event().wait(0.1)
            assert beat.stat().st_size == size
        server.wait(lambda: beat.stat().st_size > size, 10)
    finally:
        server.close()
    assert server.processes() == []
