"""Serve the overhead's baseline: an application that reads JSON, responds with JSON, and does nothing else.

`app` runs on uvicorn alone; `build` is the same behind Ray Serve's proxy, as the ingress of an application.
"""

from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def respond(request: Request) -> Response:
    """Respond with the length of the text in the request."""
    body = orjson.loads(await request.body())
    return Response(orjson.dumps({"size": len(body["inputs"])}), media_type="application/json")


app = Starlette(routes=[Route("/", respond, methods=["POST"])])


def build(args: dict[str, Any]) -> Any:
    """Build the application that `import_path: bare_ingress:build` names in a Serve config."""
    from ray import serve

    ingress = serve.deployment(serve.ingress(app)(type("Bare", (), {})))
    options = {"ray_actor_options": {"num_cpus": 0.1}, "max_ongoing_requests": 1000}
    logs = {"enable_access_log": False, "log_level": "WARNING"}  # as the Routers have it
    return ingress.options(num_replicas=args["replicas"], logging_config=logs, **options).bind()
