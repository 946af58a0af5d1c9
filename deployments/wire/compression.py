"""Read compressed request bodies, within the size limit of all bodies."""

import asyncio
import zlib

from starlette.requests import Request

from deployments.errors import InvalidInput, TooLarge
from deployments.wire.http import MAX_BODY, read_body

GZIP_OR_DEFLATE = zlib.MAX_WBITS | 32  # zlib chooses by the first bytes


async def read_decompressed_body(request: Request) -> bytes:
    """Read the whole body, and decompress it if it is gzip or deflate. Raises as `read_body` does."""
    if request.headers.get("content-encoding", "").strip().lower() not in ("gzip", "deflate"):
        return await read_body(request)
    headers = [(name, value) for name, value in request.scope["headers"] if name != b"content-encoding"]
    compressed = await read_body(Request({**request.scope, "headers": headers}, request.receive))
    return await asyncio.to_thread(decompress, compressed)


def decompress(compressed: bytes) -> bytes:
    """Decompress gzip or deflate.

    Raises `TooLarge` as soon as the result is over 32 MiB, `InvalidInput` if the data is broken.
    """
    stream = zlib.decompressobj(GZIP_OR_DEFLATE)
    try:
        body = stream.decompress(compressed, MAX_BODY + 1)
    except zlib.error as error:
        raise InvalidInput("the body does not match its Content-Encoding; send gzip or deflate") from error
    if len(body) > MAX_BODY:
        raise TooLarge(f"the body decompresses to more than {MAX_BODY:,} bytes, the limit")
    if not stream.eof or stream.unused_data:
        raise InvalidInput("the compressed body is incomplete or has bytes after its end")
    return body
