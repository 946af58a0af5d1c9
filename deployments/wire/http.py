"""Read and write HTTP bodies: the size limit, JSON, and the errors that a client may see."""

import asyncio
import logging
import uuid
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from deployments.errors import InferenceError, Internal, InvalidInput, TimedOut, TooLarge
from deployments.wire.compression import decompress
from deployments.wire.request_fields import check_fields

log = logging.getLogger(__name__)

MAX_BODY = 32 * 1024 * 1024
MAX_ELEMENTS = 1_000_000
ENCODINGS = {"gzip", "x-gzip", "deflate"}
STALL_S = 30.0  # the longest pause between two parts of a body

M = TypeVar("M", bound=BaseModel)


class UnsupportedMedia(InvalidInput):
    """The body's Content-Type or Content-Encoding is not supported."""


class RouteNotFound(InferenceError):
    """No dialect has this route, or this method of it."""

    kind = "not_found"


def request_id_of(request: Request) -> str:
    """Return the request's id, or a new one."""
    return request.headers.get("x-request-id") or uuid.uuid4().hex


def to_public_error(error: Exception, request_id: str) -> InferenceError:
    """Return Roster's own error unchanged; log any other and return one that holds only the request id."""
    if isinstance(error, InferenceError):
        return error
    log.error("request %s failed", request_id, exc_info=error)
    return Internal(f"internal error, request id {request_id}")


async def read_body(request: Request) -> bytes:
    """Read the whole body, and decompress it if its Content-Encoding is gzip or deflate.

    Raises `TooLarge` as soon as the body, compressed or not, is over 32 MiB; `UnsupportedMedia` for another
    Content-Encoding; `InvalidInput` if the compressed data is broken; `TimedOut` if the client
    pauses for 30 s.
    """
    is_compressed = _is_compressed(request)
    body = await _read_raw(request)
    return await asyncio.to_thread(decompress, body, MAX_BODY) if is_compressed else body


def decompressed_scope(scope: Scope) -> Scope:
    """Return a request's scope without the headers that describe its compressed body."""
    headers = scope["headers"]
    if not any(name == b"content-encoding" for name, _ in headers):
        return scope
    outdated = (b"content-encoding", b"content-length")
    return {**scope, "headers": [header for header in headers if header[0] not in outdated]}


def _is_compressed(request: Request) -> bool:
    values = ",".join(request.headers.getlist("content-encoding")).split(",")
    encodings = [value.strip().lower() for value in values if value.strip().lower() not in ("", "identity")]
    if len(encodings) > 1 or not {*encodings} <= ENCODINGS:
        raise UnsupportedMedia(
            f"the Content-Encoding {', '.join(encodings)!r} is not supported; send gzip, deflate or none"
        )
    return bool(encodings)


async def _read_raw(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > MAX_BODY:
        raise _too_large(int(declared))
    body = bytearray()
    try:
        async with asyncio.timeout(STALL_S) as pause:
            async for chunk in request.stream():
                pause.reschedule(asyncio.get_running_loop().time() + STALL_S)
                body += chunk
                if len(body) > MAX_BODY:
                    raise _too_large(len(body))
    except TimeoutError:
        # Proxies wait an hour for a client that has announced more than it sends.
        raise TimedOut(f"the body is incomplete: {len(body):,} bytes, then none for {STALL_S:g} s") from None
    return bytes(body)


def check_json(*texts: bytes) -> None:
    """Raise `TooLarge` if these JSON texts may hold over a million lists and objects.

    A parsed empty list takes thirty times the memory of its two characters.
    """
    if sum(text.count(b"[") + text.count(b"{") for text in texts) > MAX_ELEMENTS:
        raise TooLarge(f"the JSON has too many lists and objects; at most {MAX_ELEMENTS:,} are accepted")


def read_json(body: bytes) -> Any:
    """Parse JSON. Raises `InvalidInput` with the position of the error, or `TooLarge`."""
    check_json(body)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"Invalid JSON: {error}") from error


def validate(schema: type[M], value: Any, path: str = "") -> M:
    """Validate parsed JSON, the field `path` of a request, as `schema`.

    Raises `InvalidInput` that names the first wrong field, or one that Roster does not read.
    """
    try:
        parsed = schema.model_validate(value)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False)[0]
        field = ".".join([*([path] if path else []), *map(str, first["loc"])])
        sentence = f"`{field}`: {first['msg']}" if field else first["msg"]
        raise InvalidInput(sentence, field=field or None) from None
    check_fields(parsed, path)
    return parsed


def json_response(value: Any, status: int = 200) -> Response:
    """Return a response with `value`, which holds plain Python values, as JSON."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def _too_large(size: int) -> TooLarge:
    return TooLarge(f"the request has {size:,} bytes or more; at most {MAX_BODY:,} are accepted")
