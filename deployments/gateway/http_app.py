"""The web application: every dialect's HTTP operations behind one door."""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

import deployments.tasks  # noqa: F401 - registers the tasks whose operations the dialects list
from deployments.dialect import Dialect, Operation
from deployments.gateway.openapi import document
from deployments.wire.http import json_response, request_id_of, to_public_error

if TYPE_CHECKING:
    from deployments.routing.router import Router

PARAMETER = re.compile(r"{(\w+)}")
Answer = Callable[[Request], Awaitable[Response]]


class Segment(Convertor[str]):
    """What a path's parameter may be: a model id, or any name spelled like one; no slash, no ".."."""

    regex = r"[A-Za-z0-9][A-Za-z0-9._-]*(?!\n)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("segment", Segment())


class Table(BaseRoute):
    """Routes, found by the first segment and the number of segments of their path.

    Starlette tries one route after the other, which takes longer than all else that a door of many dialects
    does with a request.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes: dict[tuple[str, int], list[Route]] = {}
        for route in routes:
            self.routes.setdefault(_place(route.path), []).append(route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        partial: tuple[Match, Scope] = Match.NONE, {}
        for route in self.routes.get(_place(scope["path"].removeprefix(scope.get("root_path", ""))), ()):
            match, found = route.matches(scope)
            if match is Match.FULL:
                return match, {**found, "route": route}
            if match is Match.PARTIAL and partial[0] is Match.NONE:
                partial = match, {**found, "route": route}
        return partial

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["route"].handle(scope, receive, send)


def _place(path: str) -> tuple[str, int]:
    parts = path.split("/", 2)
    return parts[1] if len(parts) > 1 else "", path.count("/")


def build(router: "Router", dialects: Sequence[Dialect]) -> Starlette:
    """The application that answers every operation of `dialects` from `router`.

    Further routes (a mounted UI) can be appended to its `routes`. Raises `ValueError` where two operations
    have the same method and path.
    """
    app = Starlette(
        routes=[Table(_routes(router, dialects))],
        exception_handlers={HTTPException: _say_http_error, Exception: _say_internal_error},
    )
    app.state.openapi = cache(lambda: orjson.dumps(document(dialects)))
    return app


def _routes(router: "Router", dialects: Sequence[Dialect]) -> Iterator[Route]:
    """One route per path; a path that is spelled out goes before one with a parameter in that place."""
    answers: dict[str, dict[str, Answer]] = {}
    taken: dict[tuple[str, str], str] = {}
    for dialect in dialects:
        for operation in dialect.operations():
            place = operation.method, PARAMETER.sub("{}", operation.path)
            if place in taken:
                told = f"{operation.method} {operation.path} of {dialect.name} is {taken[place]}'s already"
                raise ValueError(told)
            taken[place] = dialect.name
            by_method = answers.setdefault(operation.path, {})
            by_method[operation.method] = partial(handle_request, dialect, operation, router)
    for path in sorted(answers, key=lambda path: [part.startswith("{") for part in path.split("/")]):
        yield Route(PARAMETER.sub(r"{\1:segment}", path), _by_method(answers[path]), methods=[*answers[path]])


async def handle_request(
    dialect: Dialect, operation: Operation, router: "Router", request: Request
) -> Response:
    """Serve one HTTP request; whatever is raised is said in the dialect's words."""
    try:
        response = await operation.endpoint(router, request)
    except ClientDisconnect:
        return Response(status_code=499)
    except Exception as error:
        request_id = request_id_of(request)
        told = to_public_error(error, request_id)
        response = dialect.error_response(told, request_id)
        if told.retry_after is not None:
            response.headers["retry-after"] = str(max(1, round(told.retry_after)))
    return response


def _by_method(answers: Mapping[str, Answer]) -> Answer:
    async def endpoint(request: Request) -> Response:
        return await answers["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


def _say_http_error(request: Any, error: Any) -> Response:
    response = json_response({"detail": error.detail, "error": error.detail}, error.status_code)
    response.headers.update(error.headers or {})
    return response


def _say_internal_error(request: Any, error: Any) -> Response:
    return json_response({"detail": "Internal Server Error", "error": "internal error"}, 500)
