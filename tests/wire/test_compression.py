"""Decompression of request bodies: gzip and deflate, up to a limit."""

import gzip
import tracemalloc
import zlib

import pytest

from deployments.errors import InvalidInput, TooLarge
from deployments.wire.compression import decompress

LIMIT = 100_000


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_body_up_to_the_limit_is_decompressed(compress) -> None:
    for body in (b"", b"x", b"x" * LIMIT):
        assert decompress(compress(body), LIMIT) == body
    with pytest.raises(TooLarge, match="decompresses to more than 100,000 bytes"):
        decompress(compress(b"x" * (LIMIT + 1)), LIMIT)


def test_bomb_is_not_unpacked_into_memory() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            decompress(bomb, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "broken",
    [b"", b"x", zlib.compress(b"x" * 99)[:-1], zlib.compress(b"x") + b"y", gzip.compress(b"x")[:-1]],
    ids=["empty", "no format", "cut zlib", "zlib and more", "cut gzip"],
)
def test_broken_data_is_invalid(broken: bytes) -> None:
    with pytest.raises(InvalidInput):
        decompress(broken, LIMIT)
