"""Request bodies as they arrive: in parts, too long, stalled, compressed or not."""

import asyncio
import gzip
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from deployments.errors import InvalidInput, TimedOut, TooLarge
from deployments.wire.http import UnsupportedMedia, decompressed_scope, read_body

LIMIT = "deployments.wire.http.MAX_BODY"


def request(*parts: bytes, then: str = "end", **headers: str) -> Request:
    """Return a request whose body arrives in these parts; then it ends, stalls or disconnects."""
    messages: list[Any] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages += [{"type": "http.disconnect"}] if then == "disconnect" else []
    messages += [{"type": "http.request", "body": b"", "more_body": False}] if then == "end" else []

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.Event().wait()

    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


@pytest.mark.parametrize("length", ["3", "5", "7", "", "²", "-1", "x", "9" * 4000])
async def test_body_counts_whatever_length_is_declared(length: str) -> None:
    if length.isdecimal() and len(length) > 9:
        with pytest.raises(TooLarge):
            await read_body(request(b"ab", b"cde", content_length=length))
        return
    assert await read_body(request(b"ab", b"cde", content_length=length)) == b"abcde"


async def test_body_is_refused_as_soon_as_it_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LIMIT, 4)
    with pytest.raises(TooLarge):
        await read_body(request(b"ab", b"cde", then="stall"))
    with pytest.raises(TooLarge):
        await read_body(request(then="stall", content_length="5"))


async def test_stalled_body_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.wire.http.STALL_S", 0.02)
    with pytest.raises(TimedOut, match=r"the body is incomplete: 5 bytes, then none for 0\.02 s"):
        await read_body(request(b"ab", b"cde", then="stall", content_length="50"))


async def test_pauses_of_a_slow_body_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.wire.http.STALL_S", 0.2)
    parts = [b"x"] * 8

    async def receive() -> Any:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": parts.pop(), "more_body": bool(parts)}

    slow = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)
    assert await read_body(slow) == b"x" * 8


async def test_client_that_disconnects_is_no_error_of_the_body() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body(request(b"ab", then="disconnect"))


@pytest.mark.parametrize("encoding", ["gzip", " GZIP ", "x-gzip", "identity, gzip", "gzip,"])
async def test_gzip_is_decompressed(encoding: str) -> None:
    data = gzip.compress(b"abcde")
    assert await read_body(request(data[:9], data[9:], content_encoding=encoding)) == b"abcde"


@pytest.mark.parametrize("encoding", ["", "identity", "Identity", "identity, identity"])
async def test_identity_is_no_encoding(encoding: str) -> None:
    assert await read_body(request(b"abcde", content_encoding=encoding)) == b"abcde"


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "*", "é"])
async def test_other_encodings_are_unsupported(encoding: str) -> None:
    with pytest.raises(UnsupportedMedia, match="send gzip, deflate or none"):
        await read_body(request(gzip.compress(b"abcde"), content_encoding=encoding))


async def test_body_that_is_not_compressed_as_declared_is_invalid() -> None:
    with pytest.raises(InvalidInput, match="does not match its Content-Encoding"):
        await read_body(request(b"{}", content_encoding="gzip"))


def test_scope_of_a_decompressed_body_does_not_describe_the_compressed_one() -> None:
    compressed = request(content_encoding="gzip", content_length="9", x="y").scope
    assert decompressed_scope(compressed)["headers"] == [(b"x", b"y")]
    plain = request(content_length="9").scope
    assert decompressed_scope(plain) == plain
