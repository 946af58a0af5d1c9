"""Write errors as the Hub does."""

import re
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from deployments.dialect import HTTP_STATUS
from deployments.errors import InferenceError
from deployments.wire.http import UnsupportedMedia, json_response
from deployments.wire.model_info import ModelLoading

LOADING_SECONDS = 20.0
MAX_HEADER = 1000  # proxies refuse an answer whose headers are longer than some kilobytes
UNPRINTABLE = re.compile(r"[^ -~]")  # in a header it ends the connection, or is read as another character

# Text Generation Inference's names, which the client turns into exceptions of their own. A kind without one
# keeps its HTTP status in the client's `HfHubHTTPError`.
ERROR_TYPE = {
    "invalid": "validation",
    "too_large": "validation",
    "overloaded": "overloaded",
    "internal": "generation",
    "timeout": "incomplete_generation",
}


class HubFailure(BaseModel):
    """An error, as the Hub says it: a whole answer, or one item's place in a list."""

    error: str
    error_type: Literal["validation", "overloaded", "generation", "incomplete_generation"] | None = None
    estimated_time: float | None = Field(None, description="Seconds until a loading model may answer.")


def error_response(error: InferenceError, request_id: str) -> Response:
    """An error's response; its sentence is in the body and, as far as it fits, in `X-Error-Message`."""
    status = 415 if isinstance(error, UnsupportedMedia) else HTTP_STATUS[error.kind]
    response = json_response(failure(error), status)
    line = " ".join(str(error).split())[:MAX_HEADER]
    response.headers["x-error-message"] = UNPRINTABLE.sub("?", line)
    return response


def failure(error: InferenceError) -> dict[str, Any]:
    failure: dict[str, Any] = {"error": str(error)}
    if error.kind in ERROR_TYPE:
        failure["error_type"] = ERROR_TYPE[error.kind]
    if isinstance(error, ModelLoading):
        failure["estimated_time"] = LOADING_SECONDS
    return failure
