"""What the door is measured against: an application that reads JSON and answers JSON, and nothing else.

`app` is for uvicorn alone; `build` is the same behind Ray Serve's proxy, as the ingress of an application.
"""

from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def answer(request: Request) -> Response:
    """The length of the text that was sent."""
    told = orjson.loads(await request.body())
    return Response(orjson.dumps({"size": len(told["inputs"])}), media_type="application/json")


app = Starlette(routes=[Route("/", answer, methods=["POST"])])


def build(args: dict[str, Any]) -> Any:
    """For `import_path: bare_ingress:build` in a Serve config."""
    from ray import serve

    class Bare:
        pass

    options: dict[str, Any] = {
        "ray_actor_options": {"num_cpus": 0.1},
        "max_ongoing_requests": 1000,
        "logging_config": {"enable_access_log": False, "log_level": "WARNING"},  # as the Routers have it
    }
    return serve.deployment(serve.ingress(app)(Bare)).options(**options).bind()
