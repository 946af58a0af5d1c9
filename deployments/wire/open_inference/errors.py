"""Write errors as the Open Inference Protocol does."""

from starlette.responses import Response

from deployments.dialect import HTTP_STATUS
from deployments.errors import InferenceError
from deployments.wire.http import UnsupportedMedia, json_response
from deployments.wire.open_inference.types import Wire

STATUS = {**HTTP_STATUS, "invalid": 400}


class Failure(Wire):
    """The body of an error response."""

    error: str


def error_response(error: InferenceError, request_id: str) -> Response:
    """Return the protocol's response to an error."""
    status = 415 if isinstance(error, UnsupportedMedia) else STATUS[error.kind]
    return json_response(Failure(error=str(error)).model_dump(), status)
