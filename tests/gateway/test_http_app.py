"""The HTTP application: routing of operations, 404 and 405, and errors without internals."""

import re
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from deployments.dialect import Dialect, Operation
from deployments.errors import InferenceError, ModelNotFound
from deployments.gateway import http_app
from deployments.wire.http import json_response

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


async def echo(router: Any, request: Request) -> Response:
    return json_response({"method": request.method, **request.path_params})


async def fail(router: Any, request: Request) -> Response:
    raise ValueError("a secret")


async def miss(router: Any, request: Request) -> Response:
    raise ModelNotFound("no such model")


def error_response(error: InferenceError, request_id: str) -> Response:
    return json_response({"message": str(error)}, 404 if error.kind == "not_found" else 500)


def broken_error_response(error: InferenceError, request_id: str) -> Response:
    raise RuntimeError("another secret")


OPERATIONS = [
    Operation("GET", "/", echo, "index"),
    Operation("GET", "/models", echo, "list"),
    Operation("GET", "/models/{model_id}", echo, "show"),
    Operation("POST", "/models/{model_id}", echo, "perform"),
    Operation("POST", "/models/{model_id}/pipeline/{task}", echo, "perform a task"),
    Operation("POST", "/models/{model_id}/pipeline/sentiment", miss, "perform sentiment"),
    Operation("POST", "/v1/{name}/{model_id}/x", echo, "deep"),
    Operation("POST", "/v1/chat/{other}/y", echo, "beside it"),
    Operation("POST", "/fail", fail, "fail"),
]
ONE = Dialect(name="one", error_response=error_response, operations=lambda: OPERATIONS)
BAD = Dialect(
    name="bad",
    error_response=broken_error_response,
    operations=lambda: [Operation("POST", "/bad", fail, "fail badly")],
)
APP = http_app.build(None, [ONE, BAD])  # type: ignore[arg-type]


@pytest.fixture
def http() -> httpx.AsyncClient:
    transport = httpx.ASGITransport(APP, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test", verify=False)


async def send_request(path: str, raw_path: bytes | None = None, method: str = "POST") -> tuple[int, bytes]:
    """Send a request with exactly this path, which httpx would normalize; return the status and the body."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "root_path": ""}
    await APP({**scope, **({"raw_path": raw_path} if raw_path is not None else {})}, receive, send)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize(
    ("method", "path", "params"),
    [
        ("GET", "/", {}),
        ("GET", "/models", {}),
        ("GET", "/models/a.b_c-1", {"model_id": "a.b_c-1"}),
        ("POST", "/models/a", {"model_id": "a"}),
        ("POST", "/models/pipeline", {"model_id": "pipeline"}),
        ("POST", "/models/a/pipeline/b", {"model_id": "a", "task": "b"}),
        ("POST", "/v1/chat/a/x", {"name": "chat", "model_id": "a"}),
        ("POST", "/v1/chat/a/y", {"other": "a"}),
    ],
)
async def test_operation_is_found_by_method_and_path(
    http, method: str, path: str, params: dict[str, str]
) -> None:
    response = await http.request(method, path)
    assert response.status_code == 200
    assert response.json() == {"method": method, **params}


async def test_literal_path_goes_before_parameter(http) -> None:
    response = await http.post("/models/a/pipeline/sentiment")
    assert response.status_code == 404
    assert response.json() == {"message": "no such model"}


@pytest.mark.parametrize(
    ("path", "raw_path"),
    [
        ("/nowhere", None),
        ("/models/a/b", None),
        ("/models/a/pipeline", None),
        ("//", None),
        ("//models/a", None),
        ("/models//a", None),
        ("/models/..", b"/models/%2e%2e"),
        ("/models/../a", b"/models/../a"),
        ("/models/a/pipeline/..", None),
        ("/models/.hidden", None),
        ("/models/-a", None),
        ("/models/a b", b"/models/a%20b"),
        ("/models/a\n", b"/models/a%0A"),
        ("/models/a\x00", b"/models/a%00"),
        ("/models/å", "/models/å".encode()),
        ("/models/²", None),
    ],
)
async def test_unknown_path_is_404_in_the_form_of_its_dialect(path: str, raw_path: bytes | None) -> None:
    status, body = await send_request(path, raw_path)
    own = b'{"message":"Not Found"}' if path.startswith("/models/") else None
    assert (status, body) == (404, own or b'{"detail":"Not Found","error":"Not Found"}')


@given(st.lists(st.text() | st.sampled_from(["models", "pipeline", "..", "a", ""]), max_size=5).map("/".join))
@settings(deadline=None)
async def test_any_path_is_found_only_with_valid_model_id(path: str) -> None:
    status, _ = await send_request(f"/models/{path}")
    if status == 200:
        model_id, *rest = path.removesuffix("/").split("/")
        assert ID.fullmatch(model_id)
        assert len(rest) in (0, 2)
    else:
        assert status in (307, 404, 405)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/models/a", {"GET", "HEAD", "POST"}),
        ("GET", "/models/a/pipeline/b", {"POST"}),
        ("HEAD", "/models/a/pipeline/b", {"POST"}),
        ("POST", "/models", {"GET", "HEAD"}),
    ],
)
async def test_wrong_method_is_405_with_allowed_methods(
    http, method: str, path: str, allowed: set[str]
) -> None:
    response = await http.request(method, path)
    assert response.status_code == 405
    assert {*response.headers["allow"].split(", ")} == allowed
    if method != "HEAD":
        assert response.json() == {"message": "Method Not Allowed"}


async def test_trailing_slash_redirects_to_operation(http) -> None:
    assert (await http.post("/models/a/")).status_code == 307
    assert (await http.post("/models/a/", follow_redirects=True)).json()["model_id"] == "a"


async def test_head_is_served_by_get(http) -> None:
    assert (await http.head("/models/a")).status_code == 200


async def test_unexpected_error_is_500_without_its_message(http) -> None:
    response = await http.post("/fail", headers={"x-request-id": "17"})
    assert response.status_code == 500
    assert response.json() == {"message": "internal error, request id 17"}


async def test_broken_error_response_is_500_without_traceback(http) -> None:
    response = await http.post("/bad")
    assert response.status_code == 500
    assert response.json() == {"detail": "Internal Server Error", "error": "internal error"}


def test_two_operations_with_same_path_are_refused() -> None:
    clash = Dialect(
        name="two",
        error_response=error_response,
        operations=lambda: [Operation("POST", "/models/{name}", echo, "clash")],
    )
    with pytest.raises(ValueError, match=r"POST /models/\{name\} of two already belongs to one"):
        http_app.build(None, [ONE, clash])  # type: ignore[arg-type]


def test_websocket_is_refused() -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), TestClient(APP).websocket_connect("/models/a"):
        pass


async def test_appended_route_is_served() -> None:
    async def page(request: Request) -> Response:
        return Response("the UI")

    app: Starlette = http_app.build(None, [ONE])  # type: ignore[arg-type]
    app.routes.append(Route("/ui", page))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        assert (await http.get("/ui")).text == "the UI"
        assert (await http.get("/models")).status_code == 200


PAGE = "http://localhost:3000"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}


def browser(*origins: str) -> httpx.AsyncClient:
    """Return a client of an application that allows pages of these origins."""
    app = http_app.build(None, [ONE], origins)  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test", verify=False)


@pytest.mark.parametrize("origins", [(PAGE,), ("https://other.example", PAGE), ("*",)])
@pytest.mark.parametrize("path", ["/models/a", "/models/a/pipeline/b", "/v1/chat/a/y", "/nowhere"])
async def test_preflight_of_every_route_is_answered_for_allowed_origins(
    path: str, origins: tuple[str, ...]
) -> None:
    response = await browser(*origins).options(path, headers=PREFLIGHT)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] in (PAGE, "*")
    assert "POST" in response.headers["access-control-allow-methods"]
    assert response.headers["access-control-allow-headers"] == PREFLIGHT["access-control-request-headers"]
    assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize(
    "path", ["/models/a", "/models/a/pipeline/sentiment", "/fail", "/nowhere", "/models"]
)
async def test_response_to_a_page_can_be_read_if_its_origin_is_allowed(path: str) -> None:
    allowed = await browser(PAGE).post(path, headers={"origin": PAGE})
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert allowed.headers["access-control-expose-headers"] == "*"
    assert allowed.headers["vary"] == "Origin"
    refused = await browser(PAGE).post(path, headers={"origin": "http://evil.example"})
    assert "access-control-allow-origin" not in refused.headers
    assert refused.status_code == allowed.status_code


async def test_preflight_of_another_origin_is_refused() -> None:
    response = await browser(PAGE).options(
        "/models/a", headers={**PREFLIGHT, "origin": "http://localhost:3001"}
    )
    assert response.status_code == 400
    assert "access-control-allow-origin" not in response.headers


async def test_no_origin_is_allowed_by_default(http) -> None:
    assert (await http.options("/models/a", headers=PREFLIGHT)).status_code == 405
    response = await http.post("/models/a", headers={"origin": PAGE})
    assert not [name for name in response.headers if name.startswith("access-control")]
