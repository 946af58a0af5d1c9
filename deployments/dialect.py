"""A dialect is a wire protocol of the gateway: HTTP operations, rpcs and a form of errors.

Each file in `dialects/` defines one `Dialect`, as `dialect`. This file holds the types of its parts, and the
usual status of each kind of error.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import InferenceError

if TYPE_CHECKING:
    from deployments.routing.router import Router
    from deployments.task import Task

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


@dataclass(frozen=True)
class Operation:
    """One HTTP route and its description for OpenAPI.

    `path` writes a parameter as "{model_id}": one segment with the characters of a model id. `body` and
    `response` are the types of the JSON. `raw_body` is the media type of a body that is not JSON ("image/*"),
    if the route accepts one; `raw_body_limit` is its limit in bytes, if that is lower than every body's.
    `event` is the type of a server-sent event's data, if the response can stream.
    """

    method: str
    path: str
    endpoint: Endpoint
    summary: str
    body: JsonSchema | None = None
    response: JsonSchema | None = None
    raw_body: str | None = None
    raw_body_limit: int | None = None
    event: JsonSchema | None = None


@dataclass(frozen=True)
class Rpc:
    """One unary gRPC method.

    `call` receives the request's raw bytes and the invocation metadata (the last of equal keys), and returns
    the response's bytes. It raises `InferenceError`s.
    """

    service: str
    name: str
    call: Callable[["Router", bytes, Mapping[str, str]], Awaitable[bytes]]


@dataclass(frozen=True)
class StreamRpc:
    """One gRPC method with a stream of requests and a stream of responses.

    `call` receives the requests' raw bytes as they arrive, and yields the responses' bytes. The gateway
    closes it when the client disconnects.
    """

    service: str
    name: str
    call: Callable[["Router", AsyncIterator[bytes], Mapping[str, str]], AsyncGenerator[bytes, None]]


@dataclass(frozen=True)
class SupportedCall:
    """One working request to a task in a dialect.

    An HTTP call has a JSON body. An rpc has the bytes of its message as `body`, "RPC" as `method` and
    "package.Service/Method" as `path`. `streams`: the response is a stream of events.
    """

    method: str
    path: str
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    streams: bool = False


@dataclass(frozen=True)
class Dialect:
    """A wire protocol: its routes, its rpcs and its form of errors.

    `operations` and `rpcs` build the routes for the registered tasks. `supported_calls` returns the calls
    that a model of a task, with this id, supports; docs/dialects.md lists them, and the tests try each.
    `error_response` converts an error and the request's id to a response; `error` is the type of its JSON.
    `ignored_fields` names the fields of requests that are accepted with any value, because they do not change
    the answer; "options.use_cache" is one of an inner object. `extra_error_responses` describes, by HTTP
    status, errors that are not in `errors.py`, for OpenAPI.
    """

    name: str
    error_response: Callable[[InferenceError, str], Response]
    operations: Callable[[], list[Operation]]
    rpcs: Callable[[], Sequence[Rpc | StreamRpc]] = list
    supported_calls: Callable[["Task", str], list[SupportedCall]] = lambda task, model_id: []
    error: JsonSchema | None = None
    ignored_fields: Collection[str] = ()
    extra_error_responses: Mapping[int, str] = field(default_factory=dict)
