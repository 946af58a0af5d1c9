"""Serve the documentation: the OpenAPI document, Swagger UI, and the files that Swagger UI needs."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

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

# Swagger UI's files name other hosts (a schema validator, for example); the browser must not contact them.
CONTENT_SECURITY_POLICY = "default-src 'self' 'unsafe-inline'; img-src 'self' data:"


async def show_openapi(router: "Router", request: Request) -> Response:
    """Serve the OpenAPI document."""
    return Response(request.app.state.openapi(), media_type="application/json")


async def show_docs(router: "Router", request: Request) -> Response:
    """Serve the Swagger UI page."""
    page = PAGE.format(root=request.scope.get("root_path", ""))
    return HTMLResponse(page, headers={"content-security-policy": CONTENT_SECURITY_POLICY})


async def show_icon(router: "Router", request: Request) -> Response:
    """Serve the icon at the path that browsers request by default."""
    return FileResponse(_static_folder() / "favicon.png")


async def show_static(router: "Router", request: Request) -> Response:
    """Serve one of Swagger UI's files."""
    file = request.path_params["file"]
    if file not in STATIC:
        return json_response({"error": f"there is no file {file!r}", "error_type": "not_found"}, 404)
    return FileResponse(_static_folder() / file, headers={"cache-control": "public, max-age=86400"})


def _static_folder() -> Path:
    # `find_spec` does not import the package, which would import FastAPI.
    package = importlib.util.find_spec("fastapi_offline")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "static"
