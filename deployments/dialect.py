"""A dialect is a wire protocol spoken at the door: HTTP operations, rpcs, and its own words for errors.

`Dialect` is what each file in `dialects/` defines, once, as `dialect`. The rest is what they share: reading a
body within its limit, and turning whatever is raised into the dialect's words in one place.
"""

import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from deployments.errors import InferenceError, Internal, InvalidInput, TooLarge

if TYPE_CHECKING:
    from deployments.routing.router import Router
    from deployments.task import Task

log = logging.getLogger(__name__)

MAX_BODY = 32 * 1024 * 1024
MAX_ELEMENTS = 1_000_000

HTTP_STATUS = {
    "invalid": 422,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "too_large": 413,
    "overloaded": 429,
    "unavailable": 503,
    "timeout": 504,
    "internal": 500,
}

GRPC_STATUS = {
    "invalid": "INVALID_ARGUMENT",
    "unauthorized": "UNAUTHENTICATED",
    "forbidden": "PERMISSION_DENIED",
    "not_found": "NOT_FOUND",
    "too_large": "RESOURCE_EXHAUSTED",
    "overloaded": "RESOURCE_EXHAUSTED",
    "unavailable": "UNAVAILABLE",
    "timeout": "DEADLINE_EXCEEDED",
    "internal": "INTERNAL",
}

Endpoint = Callable[["Router", Request], Awaitable[Response]]
JsonSchema = type[BaseModel] | Mapping[str, Any]


class UnsupportedMedia(InvalidInput):
    """The body's Content-Type is none that is read here."""


@dataclass(frozen=True)
class Operation:
    """One HTTP route and what OpenAPI says of it.

    `path` holds parameters as "{model_id}": one segment each, spelled like a model id. `body` and `answer`
    type the JSON; `raw_body` is the media type of a body that is no JSON ("image/*"), where one is read as
    well; `event` types the data of each server-sent event, where the answer can stream.
    """

    method: str
    path: str
    endpoint: Endpoint
    summary: str
    body: JsonSchema | None = None
    answer: JsonSchema | None = None
    raw_body: str | None = None
    event: JsonSchema | None = None


@dataclass(frozen=True)
class Rpc:
    """One unary gRPC method.

    `call` gets the request's raw bytes and the invocation metadata (the last of equal keys), and returns the
    answer's bytes; it raises `InferenceError`s.
    """

    service: str
    name: str
    call: Callable[["Router", bytes, Mapping[str, str]], Awaitable[bytes]]


@dataclass(frozen=True)
class StreamRpc:
    """One gRPC method with a stream of requests and one of answers.

    `call` gets the requests' raw bytes as they come, and yields answers' bytes; it is closed when the caller
    has gone.
    """

    service: str
    name: str
    call: Callable[["Router", AsyncIterator[bytes], Mapping[str, str]], AsyncGenerator[bytes, None]]


@dataclass(frozen=True)
class Offer:
    """One way to use a task in a dialect, as a request that works: an HTTP call with a JSON body, or an rpc
    with the bytes of its message (`method` is "RPC" then, and `path` is "package.Service/Method")."""

    method: str
    path: str
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    streams: bool = False


@dataclass(frozen=True)
class Dialect:
    """A wire protocol: its routes and rpcs, made anew for the tasks that are registered, and its error form.

    `offers` tells what a model of a task (given with the model's id) can be asked here; docs/dialects.md is
    made of it, and every offer is tried in the tests. `say` makes an error's response; it gets the request's
    id as well. `error` types its JSON; `refusals` tells OpenAPI of the dialect's further errors, by HTTP
    status: `say` tells it those of `errors.py`.
    """

    name: str
    say: Callable[[InferenceError, str], Response]
    operations: Callable[[], list[Operation]]
    rpcs: Callable[[], Sequence[Rpc | StreamRpc]] = list
    offers: Callable[["Task", str], list[Offer]] = lambda task, model_id: []
    error: JsonSchema | None = None
    refusals: Mapping[int, str] = field(default_factory=dict)


async def answer(dialect: Dialect, operation: Operation, router: "Router", request: Request) -> Response:
    """Serve one HTTP request; whatever is raised is said in the dialect's words."""
    try:
        response = await operation.endpoint(router, request)
    except ClientDisconnect:
        return Response(status_code=499)
    except Exception as error:
        request_id = id_of(request)
        told = tell(error, request_id)
        response = dialect.say(told, request_id)
        if told.retry_after is not None:
            response.headers["retry-after"] = str(max(1, round(told.retry_after)))
    return response


def id_of(request: Request) -> str:
    """The request's id, or a new one."""
    return request.headers.get("x-request-id") or uuid.uuid4().hex


def tell(error: Exception, request_id: str) -> InferenceError:
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


def json_response(value: Any, status: int = 200) -> Response:
    """JSON, written by orjson; `value` holds plain Python values."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def _too_large(size: int) -> TooLarge:
    return TooLarge(f"the request has {size:,} bytes or more; at most {MAX_BODY:,} are accepted")
