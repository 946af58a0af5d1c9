"""Write errors as Roster's own protocol does."""

from typing import Literal

from pydantic import BaseModel
from starlette.responses import Response

from deployments.dialect import HTTP_STATUS
from deployments.errors import InferenceError
from deployments.wire.http import json_response


class RosterFailure(BaseModel):
    """An error, and its kind."""

    error: str
    error_type: Literal[tuple(HTTP_STATUS)]  # type: ignore[valid-type]


def error_response(error: InferenceError, request_id: str) -> Response:
    """Return the response for an error."""
    return json_response({"error": str(error), "error_type": error.kind}, HTTP_STATUS[error.kind])
