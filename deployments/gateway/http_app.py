"""The HTTP application: every dialect's operations as the routes of one Starlette application."""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

import deployments.tasks  # noqa: F401 - registers the tasks whose operations the dialects list
from deployments.dialect import Dialect, Operation
from deployments.gateway.openapi import document
from deployments.telemetry.truncation import observe_truncation
from deployments.wire.http import RouteNotFound, json_response, request_id_of, to_public_error

if TYPE_CHECKING:
    from deployments.routing.router import Router

PATH_PARAMETER = re.compile(r"{(\w+)}")
CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that disconnects before the response
Handler = Callable[[Request], Awaitable[Response]]


class SegmentConvertor(Convertor[str]):
    """A path parameter: a model id, or another name with the same characters; no slash, no ".."."""

    regex = r"[A-Za-z0-9][A-Za-z0-9._-]*(?!\n)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("segment", SegmentConvertor())


class RouteIndex(BaseRoute):
    """Routes, indexed by the first segment and the number of segments of their path.

    Starlette tries one route after the other. With the routes of many dialects, that takes longer than all
    other work of the gateway on a request.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes: dict[tuple[str, int], list[Route]] = {}
        for route in routes:
            self.routes.setdefault(_route_key(route.path), []).append(route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        partial_match: tuple[Match, Scope] = Match.NONE, {}
        for route in self.routes.get(_route_key(scope["path"].removeprefix(scope.get("root_path", ""))), ()):
            match, child_scope = route.matches(scope)
            if match is Match.FULL:
                return match, {**child_scope, "route": route}
            if match is Match.PARTIAL and partial_match[0] is Match.NONE:
                partial_match = match, {**child_scope, "route": route}
        return partial_match

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["route"].handle(scope, receive, send)


def _route_key(path: str) -> tuple[str, int]:
    segments = path.split("/", 2)
    return segments[1] if len(segments) > 1 else "", path.count("/")


def build(router: "Router", dialects: Sequence[Dialect], allowed_origins: Sequence[str] = ()) -> Starlette:
    """Build the application that serves every operation of `dialects` with `router`.

    Browsers may call it from pages of `allowed_origins`; "*" allows every page.
    The caller may append further routes (a mounted UI) to its `routes`. Raises `ValueError` if two operations
    have the same method and path.
    """
    app = Starlette(
        routes=[RouteIndex(_routes(router, dialects))],
        middleware=[_cors(allowed_origins)] if allowed_origins else [],
        exception_handlers={
            HTTPException: partial(_http_error_response, _dialects_by_root(dialects)),
            Exception: _internal_error_response,
        },
    )
    app.state.openapi = cache(lambda: orjson.dumps(document(dialects)))
    return app


def _cors(allowed_origins: Sequence[str]) -> Middleware:
    """Answer preflight requests of every route, and let pages read every header of a response.

    Roster knows no cookies: a page sends its key in a header, so credentials are not allowed.
    """
    return Middleware(
        CORSMiddleware,
        allow_origins=allowed_origins,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["*"],
        allow_private_network=True,
    )


def _routes(router: "Router", dialects: Sequence[Dialect]) -> Iterator[Route]:
    """Yield one route per path; a literal segment goes before a parameter in the same position."""
    handlers: dict[str, dict[str, Handler]] = {}
    owners: dict[tuple[str, str], str] = {}
    for dialect in dialects:
        for operation in dialect.operations():
            key = operation.method, PATH_PARAMETER.sub("{}", operation.path)
            if key in owners:
                route = f"{operation.method} {operation.path}"
                raise ValueError(f"{route} of {dialect.name} already belongs to {owners[key]}")
            owners[key] = dialect.name
            by_method = handlers.setdefault(operation.path, {})
            by_method[operation.method] = partial(handle_request, dialect, operation, router)
    for path in sorted(handlers, key=lambda path: [segment.startswith("{") for segment in path.split("/")]):
        pattern = PATH_PARAMETER.sub(r"{\1:segment}", path)
        yield Route(pattern, _dispatch_by_method(handlers[path]), methods=[*handlers[path]])


async def handle_request(
    dialect: Dialect, operation: Operation, router: "Router", request: Request
) -> Response:
    """Serve one HTTP request; convert any exception to the dialect's error response."""
    try:
        with observe_truncation() as truncation:
            response = await operation.endpoint(router, request)
        response.headers.update(truncation.header)
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    except Exception as exception:
        request_id = request_id_of(request)
        error = to_public_error(exception, request_id)
        response = dialect.error_response(error, request_id)
        if error.retry_after is not None:
            response.headers["retry-after"] = str(max(1, round(error.retry_after)))
    return response


def _dispatch_by_method(handlers: Mapping[str, Handler]) -> Handler:
    async def endpoint(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


def _dialects_by_root(dialects: Sequence[Dialect]) -> dict[str, Dialect]:
    """Return the dialect of each first segment of a path: the first one that has routes there."""
    roots: dict[str, Dialect] = {}
    for dialect in dialects:
        for operation in dialect.operations():
            roots.setdefault(_route_key(operation.path)[0], dialect)
    return roots


def _http_error_response(roots: Mapping[str, Dialect], request: Any, error: Any) -> Response:
    """Write an unknown route or method in the form of the dialect that has the other routes there."""
    dialect = roots.get(_route_key(request.url.path)[0])
    if dialect is None:
        response = json_response({"detail": error.detail, "error": error.detail}, error.status_code)
    else:
        response = dialect.error_response(RouteNotFound(error.detail), request_id_of(request))
        response.status_code = error.status_code
    response.headers.update(error.headers or {})
    return response


def _internal_error_response(request: Any, error: Any) -> Response:
    return json_response({"detail": "Internal Server Error", "error": "internal error"}, 500)
