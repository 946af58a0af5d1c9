"""The web application: every dialect's HTTP operations behind one door."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

import deployments.tasks  # noqa: F401 - registers the tasks whose operations the dialects list
from deployments.dialect import Dialect, Operation, answer, json_response
from deployments.openapi import document

if TYPE_CHECKING:
    from deployments.router import Router

SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What a path's parameter may be: a model id, or any name spelled like one."""


def build(router: "Router", dialects: Sequence[Dialect]) -> Starlette:
    """The application that answers every operation of `dialects` from `router`.

    Further routes (a mounted UI) can be appended to its `routes`.
    """
    app = Starlette(
        routes=[Operations(router, dialects)],
        exception_handlers={HTTPException: _say_http_error, Exception: _say_internal_error},
    )
    app.router.redirect_slashes = False
    app.state.openapi = cache(lambda: orjson.dumps(document(dialects)))
    return app


class Operations(BaseRoute):
    """Every operation of every dialect, as one route.

    The operation is found by walking the path's segments, so that finding one among a hundred costs as little
    as finding the only one. A parameter is one segment that matches `SEGMENT`: no slash, however encoded, and
    no "..".
    """

    def __init__(self, router: "Router", dialects: Sequence[Dialect]) -> None:
        self.router = router
        self.root = Place()
        for dialect in dialects:
            for operation in dialect.operations():
                self.root.reach(operation.path).add(dialect, operation)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or b"%2f" in (scope.get("raw_path") or b"").lower():
            return Match.NONE, {}
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        found = self.root.find(segments(path))
        if found is None:
            return Match.NONE, {}
        place, values = found
        return Match.FULL, {"endpoint": self, "place": place, "path_values": values}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.respond(scope["place"], scope, receive, send)
        if scope["method"] == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    async def respond(self, place: "Place", scope: Scope, receive: Receive, send: Send) -> Response:
        """The response of the operation that the place has for the request's method."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in place.operations:
            return _refuse_method(method, place)
        dialect, operation, names = place.operations[method]
        scope["path_params"] = dict(zip(names, scope["path_values"], strict=True))
        return await answer(dialect, operation, self.router, Request(scope, receive, send))


class Place:
    """One point in the tree of paths: the operations that end here, by method, and the ways that lead on."""

    def __init__(self) -> None:
        self.operations: dict[str, tuple[Dialect, Operation, list[str]]] = {}
        self.named: dict[str, Place] = {}
        self.any: Place | None = None

    def reach(self, path: str) -> "Place":
        """The place at the end of an operation's path, made as needed."""
        place = self
        for segment in segments(path):
            if segment.startswith("{"):
                place.any = place.any or Place()
                place = place.any
            else:
                place = place.named.setdefault(segment, Place())
        return place

    def add(self, dialect: Dialect, operation: Operation) -> None:
        """Let an operation end here. Raises `ValueError` if another one does already."""
        if taken := self.operations.get(operation.method):
            raise ValueError(
                f"{operation.method} {operation.path} of {dialect.name} is {taken[0].name}'s already"
            )
        names = re.findall(r"{(\w+)}", operation.path)
        self.operations[operation.method] = (dialect, operation, names)

    def find(self, path: Sequence[str]) -> "tuple[Place, list[str]] | None":
        """The place that a request's path ends at, and its parameters' values."""
        if not path:
            return (self, []) if self.operations else None
        head, *rest = path
        if (named := self.named.get(head)) and (found := named.find(rest)):
            return found
        if self.any and SEGMENT.fullmatch(head) and (found := self.any.find(rest)):
            place, values = found
            return place, [head, *values]
        return None


def segments(path: str) -> list[str]:
    """A path's parts; one trailing slash makes no difference."""
    parts = path.removeprefix("/").split("/")
    return parts if parts[-1] else parts[:-1]


def _allowed(place: Place) -> Iterator[str]:
    yield from place.operations
    yield "OPTIONS"
    if "GET" in place.operations:
        yield "HEAD"


def _refuse_method(method: str, place: Place) -> Response:
    allowed = {"allow": ", ".join(sorted(_allowed(place)))}
    if method == "OPTIONS":
        return Response(status_code=204, headers=allowed)
    return _say_http_error(None, HTTPException(405, headers=allowed))


def _say_http_error(request: Any, error: Any) -> Response:
    response = json_response({"detail": error.detail, "error": error.detail}, error.status_code)
    response.headers.update(error.headers or {})
    return response


def _say_internal_error(request: Any, error: Any) -> Response:
    return json_response({"detail": "Internal Server Error", "error": "internal error"}, 500)
