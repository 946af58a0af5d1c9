"""Write errors as Text Embeddings Inference does."""

from typing import Literal

from pydantic import BaseModel
from starlette.responses import Response

from deployments.dialect import HTTP_STATUS
from deployments.errors import InferenceError, InvalidInput, TaskMismatch
from deployments.wire.http import UnsupportedMedia, json_response


class Empty(InvalidInput):
    """A text or a list has nothing in it."""


class Untokenizable(InvalidInput):
    """What the model's tokenizer refuses."""


class TeiFailure(BaseModel):
    """An error, as Text Embeddings Inference says it."""

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


ERROR_TYPE = {
    "overloaded": "Overloaded",
    "unavailable": "Unhealthy",
    "timeout": "Backend",
    "internal": "Backend",
}
SAID: dict[type[InferenceError], tuple[int, str]] = {
    Empty: (400, "Empty"),
    UnsupportedMedia: (415, "Validation"),
    TaskMismatch: (424, "Backend"),
    Untokenizable: (422, "Tokenizer"),
}


def error_response(error: InferenceError, request_id: str) -> Response:
    usual = {**HTTP_STATUS, "internal": 424}[error.kind], ERROR_TYPE.get(error.kind, "Validation")
    status, error_type = SAID.get(type(error), usual)
    return json_response({"error": str(error), "error_type": error_type}, status)
