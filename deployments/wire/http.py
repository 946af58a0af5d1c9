"""Read and write HTTP bodies: the size limit, JSON, and the errors that a client may see."""

import logging
import uuid
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import InferenceError, Internal, InvalidInput, TooLarge

log = logging.getLogger(__name__)

MAX_BODY = 32 * 1024 * 1024
MAX_ELEMENTS = 1_000_000

M = TypeVar("M", bound=BaseModel)


class UnsupportedMedia(InvalidInput):
    """The body's Content-Type or Content-Encoding is not supported."""


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
    """Read the whole body, which may not be compressed.

    Raises `TooLarge` as soon as the body is over 32 MiB, `UnsupportedMedia` if it has a Content-Encoding.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMedia(f"the Content-Encoding {encoding!r} is not supported")
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > MAX_BODY:
        raise _too_large(int(declared))
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise _too_large(len(body))
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


def validate(schema: type[M], value: Any) -> M:
    """Validate parsed JSON as `schema`. Raises `InvalidInput` that names the first wrong field."""
    try:
        return schema.model_validate(value)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        sentence = f"`{field}`: {first['msg']}" if field else first["msg"]
        raise InvalidInput(sentence, field=field or None) from None


def json_response(value: Any, status: int = 200) -> Response:
    """Return a response with `value`, which holds plain Python values, as JSON."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def _too_large(size: int) -> TooLarge:
    return TooLarge(f"the request has {size:,} bytes or more; at most {MAX_BODY:,} are accepted")
