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
MAX_HEADER = 1000  # characters; proxies refuse responses with headers over some kilobytes
# In a header, another character ends the connection, or the client decodes it as something else.
NOT_PRINTABLE_ASCII = re.compile(r"[^ -~]")

# Text Generation Inference's names, for which the client raises specific exceptions. For a kind without a
# name, the client raises `HfHubHTTPError` with the HTTP status.
ERROR_TYPE = {
    "invalid": "validation",
    "too_large": "validation",
    "overloaded": "overloaded",
    "internal": "generation",
    "timeout": "incomplete_generation",
}


class HubFailure(BaseModel):
    """An error in the Hub's form: a whole response, or one item of a list."""

    error: str
    error_type: Literal["validation", "overloaded", "generation", "incomplete_generation"] | None = None
    estimated_time: float | None = Field(None, description="Seconds until a loading model may be ready.")


def error_response(error: InferenceError, request_id: str) -> Response:
    """Return the response for an error; the message is in the body and, truncated, in `X-Error-Message`."""
    status = 415 if isinstance(error, UnsupportedMedia) else HTTP_STATUS[error.kind]
    response = json_response(error_json(error), status)
    message = " ".join(str(error).split())[:MAX_HEADER]
    response.headers["x-error-message"] = NOT_PRINTABLE_ASCII.sub("?", message)
    return response


def error_json(error: InferenceError) -> dict[str, Any]:
    """Return the error in the form of `HubFailure`."""
    failure: dict[str, Any] = {"error": str(error)}
    if error.kind in ERROR_TYPE:
        failure["error_type"] = ERROR_TYPE[error.kind]
    if isinstance(error, ModelLoading):
        failure["estimated_time"] = LOADING_SECONDS
    return failure
