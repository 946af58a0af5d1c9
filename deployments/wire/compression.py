"""A compressed request body, inflated within the limit that holds for all bodies."""

import asyncio
import zlib

from starlette.requests import Request

from deployments.errors import InvalidInput, TooLarge
from deployments.wire.http import MAX_BODY, read_body

EITHER = zlib.MAX_WBITS | 32  # gzip or deflate, by its first bytes


async def read_inflated(request: Request) -> bytes:
    """The whole body; where it comes as gzip or deflate, what it holds. Raises as `read_body` does."""
    if request.headers.get("content-encoding", "").strip().lower() not in ("gzip", "deflate"):
        return await read_body(request)
    headers = [(name, value) for name, value in request.scope["headers"] if name != b"content-encoding"]
    packed = await read_body(Request({**request.scope, "headers": headers}, request.receive))
    return await asyncio.to_thread(inflate, packed)


def inflate(packed: bytes) -> bytes:
    """What `packed` holds. Raises `TooLarge` as soon as it is over 32 MiB, `InvalidInput` if it is broken."""
    stream = zlib.decompressobj(EITHER)
    try:
        body = stream.decompress(packed, MAX_BODY + 1)
    except zlib.error as broken:
        raise InvalidInput("the body is not compressed as its Content-Encoding says") from broken
    if len(body) > MAX_BODY:
        raise TooLarge(f"the request inflates to more than {MAX_BODY:,} bytes")
    if not stream.eof or stream.unused_data:
        raise InvalidInput("the compressed body does not end where it should")
    return body
