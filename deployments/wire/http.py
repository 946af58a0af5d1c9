"""Read and write HTTP bodies: the size limit, JSON, and the error that a caller may see."""

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
    """The body's Content-Type is none that is read here."""


def request_id_of(request: Request) -> str:
    """The request's id, or a new one."""
    return request.headers.get("x-request-id") or uuid.uuid4().hex


def to_public_error(error: Exception, request_id: str) -> InferenceError:
    """The error as callers may hear it: our own as it is, any other logged and replaced by its request id."""
    if isinstance(error, InferenceError):
        return error
    log.error("request %s failed", request_id, exc_info=error)
    return Internal(f"internal error, request id {request_id}")


async def read_body(request: Request) -> bytes:
    """The whole body, or `TooLarge` as soon as it is known to be over 32 MiB; it may not be compressed."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMedia(f"the Content-Encoding {encoding!r} is not understood")
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > MAX_BODY:
        raise _too_large(int(declared))
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise _too_large(len(body))
    return bytes(body)


def check_json(*texts: bytes) -> None:
    """Raise `TooLarge` where these, as JSON, may hold over a million lists and objects.

    Parsed, a list of nothing takes thirty times the room that it has in a text.
    """
    if sum(text.count(b"[") + text.count(b"{") for text in texts) > MAX_ELEMENTS:
        raise TooLarge(f"the JSON has too many lists and objects; at most {MAX_ELEMENTS:,} are accepted")


def read_json(body: bytes) -> Any:
    """Parse JSON. Raises `InvalidInput` that says where it breaks, or `TooLarge`."""
    check_json(body)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as broken:
        raise InvalidInput(f"Invalid JSON: {broken}") from broken


def validate(schema: type[M], value: Any) -> M:
    """Return parsed JSON as `schema`. Raises `InvalidInput` that names the first field that is wrong."""
    try:
        return schema.model_validate(value)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        sentence = f"`{field}`: {first['msg']}" if field else first["msg"]
        raise InvalidInput(sentence, field=field or None) from None


def json_response(value: Any, status: int = 200) -> Response:
    """JSON, written by orjson; `value` holds plain Python values."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def _too_large(size: int) -> TooLarge:
    return TooLarge(f"the request has {size:,} bytes or more; at most {MAX_BODY:,} are accepted")
