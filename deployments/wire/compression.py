"""Decompress request bodies, within a limit of their size."""

import zlib

from deployments.errors import InvalidInput, TooLarge

GZIP_OR_DEFLATE = zlib.MAX_WBITS | 32  # zlib chooses by the first bytes


def decompress(compressed: bytes, limit: int) -> bytes:
    """Decompress gzip or deflate.

    Raises `TooLarge` as soon as the result is over `limit` bytes, `InvalidInput` if the data is broken.
    """
    stream = zlib.decompressobj(GZIP_OR_DEFLATE)
    try:
        body = stream.decompress(compressed, limit + 1)
    except zlib.error as error:
        raise InvalidInput("the body does not match its Content-Encoding; send gzip or deflate") from error
    if len(body) > limit:
        raise TooLarge(f"the body decompresses to more than {limit:,} bytes, the limit")
    if not stream.eof or stream.unused_data:
        raise InvalidInput("the compressed body is incomplete or has bytes after its end")
    return body
