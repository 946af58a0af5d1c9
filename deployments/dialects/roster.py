"""The cluster's own face: its index, its health, and the documentation of every dialect."""

import importlib.util
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, RootModel
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from deployments.card import State
from deployments.dialect import HTTP_STATUS, Dialect, Operation
from deployments.errors import InferenceError
from deployments.telemetry.request_stats import Figures
from deployments.wire.http import json_response

if TYPE_CHECKING:
    from deployments.routing.router import Router

STATIC = {"swagger-ui.css", "swagger-ui-bundle.js", "favicon.png"}

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Roster</title>
<link rel="icon" href="{root}/docs/static/favicon.png">
<link rel="stylesheet" href="{root}/docs/static/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{root}/docs/static/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({{
  url: "{root}/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  docExpansion: "none",
  validatorUrl: null
}})
</script>
</body>
</html>
"""

# Swagger UI's files name other hosts (a schema validator, for one); the browser is told to ask none of them.
POLICY = "default-src 'self' 'unsafe-inline'; img-src 'self' data:"


class RosterFailure(BaseModel):
    """An error, and its kind."""

    error: str
    error_type: Literal[tuple(HTTP_STATUS)]  # type: ignore[valid-type]


class Index(BaseModel):
    """Where to go from here."""

    models: str = "/models"
    status: str = "/status"
    docs: str = "/docs"
    openapi: str = "/openapi.json"


class Liveness(BaseModel):
    """The door is open."""

    status: Literal["live"] = "live"


class Status(RootModel[list[Figures]]):
    """How each model does: requests per second, latencies, requests in flight."""


class Counters(RootModel[dict[str, int]]):
    """Running totals of the work of one of the model's replicas, by its module's own names."""


class Readiness(BaseModel):
    """Whether every folder that was there at start is ready or unavailable, and how many are which."""

    status: Literal["ready", "starting"]
    ready: int
    loading: int
    unavailable: int


async def show_index(router: "Router", request: Request) -> Response:
    """Browsers are sent to the UI, or the documentation where there is none; others read where things are."""
    if "text/html" in request.headers.get("accept", ""):
        face = f"{request.scope.get('root_path', '')}/{'ui' if router.has_ui else 'docs'}"
        return RedirectResponse(face, headers={"vary": "accept"})
    response = json_response(Index().model_dump())
    response.headers["vary"] = "accept"
    return response


async def show_live(router: "Router", request: Request) -> Response:
    return json_response(Liveness().model_dump())


async def show_ready(router: "Router", request: Request) -> Response:
    """200 once the cluster has settled; before, 503 with the counts beside the error."""
    states: Counter[State] = Counter(card.state for card in router.cards.values())
    readiness = Readiness(
        status="ready" if router.settled else "starting",
        ready=states["ready"],
        loading=states["loading"],
        unavailable=states["unavailable"],
    )
    if router.settled:
        return json_response(readiness.model_dump())
    told = {"error": "the models are still loading", "error_type": "unavailable", **readiness.model_dump()}
    return json_response(told, HTTP_STATUS["unavailable"])


async def show_status(router: "Router", request: Request) -> Response:
    return json_response([figures.model_dump() for figures in await router.figures()])


async def show_counters(router: "Router", request: Request) -> Response:
    """Refuses a model that is unknown, or unavailable, before anything is asked of its replicas."""
    model_id = request.path_params["model_id"]
    router.task(model_id)
    return json_response(await router.counters(model_id))


async def show_openapi(router: "Router", request: Request) -> Response:
    return Response(request.app.state.openapi(), media_type="application/json")


async def show_docs(router: "Router", request: Request) -> Response:
    page = PAGE.format(root=request.scope.get("root_path", ""))
    return HTMLResponse(page, headers={"content-security-policy": POLICY})


async def show_icon(router: "Router", request: Request) -> Response:
    """Browsers ask for it, whatever the page says."""
    return FileResponse(_static_folder() / "favicon.png")


async def show_static(router: "Router", request: Request) -> Response:
    """One of Swagger UI's files."""
    file = request.path_params["file"]
    if file not in STATIC:
        return json_response({"error": f"there is no file {file!r}", "error_type": "not_found"}, 404)
    return FileResponse(_static_folder() / file, headers={"cache-control": "public, max-age=86400"})


def say(error: InferenceError, request_id: str) -> Response:
    return json_response({"error": str(error), "error_type": error.kind}, HTTP_STATUS[error.kind])


def operations() -> list[Operation]:
    return [
        Operation("GET", "/", show_index, "Show where to go", answer=Index),
        Operation("GET", "/health/live", show_live, "Tell that the door is open", answer=Liveness),
        Operation(
            "GET", "/health/ready", show_ready, "Tell whether the models have loaded", answer=Readiness
        ),
        Operation("GET", "/status", show_status, "Tell how each model does", answer=Status),
        Operation(
            "GET", "/models/{model_id}/counters", show_counters, "Count a replica's work", answer=Counters
        ),
        Operation("GET", "/openapi.json", show_openapi, "Describe every operation"),
        Operation("GET", "/docs", show_docs, "Show this documentation"),
        Operation("GET", "/favicon.ico", show_icon, "Give the pages' icon"),
        Operation("GET", "/docs/static/{file}", show_static, "Give a file to this documentation"),
    ]


def _static_folder() -> Path:
    # Found without importing it: that would bring FastAPI.
    package = importlib.util.find_spec("fastapi_offline")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "static"


dialect = Dialect(name="roster", say=say, operations=operations, error=RosterFailure)
