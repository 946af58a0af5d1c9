"""Write errors as Text Embeddings Inference does."""

from typing import Literal

from pydantic import BaseModel
from starlette.responses import Response

from deployments.dialect import HTTP_STATUS
from deployments.errors import ContextLengthExceeded, InferenceError, InvalidInput, TaskMismatch
from deployments.wire.http import UnsupportedMedia, json_response


class Empty(InvalidInput):
    """A text or a list is empty."""


class Untokenizable(InvalidInput):
    """The model's tokenizer refuses the texts or token ids."""


class TeiFailure(BaseModel):
    """An error in Text Embeddings Inference's form."""

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


ERROR_TYPE = {
    "overloaded": "Overloaded",
    "unavailable": "Unhealthy",
    "timeout": "Backend",
    "internal": "Backend",
}
STATUS_AND_TYPE: dict[type[InferenceError], tuple[int, str]] = {
    Empty: (400, "Empty"),
    UnsupportedMedia: (415, "Validation"),
    TaskMismatch: (424, "Backend"),
    ContextLengthExceeded: (413, "Validation"),
    Untokenizable: (422, "Tokenizer"),
}


def error_response(error: InferenceError, request_id: str) -> Response:
    """Return the response for an error."""
    default = {**HTTP_STATUS, "internal": 424}[error.kind], ERROR_TYPE.get(error.kind, "Validation")
    status, error_type = STATUS_AND_TYPE.get(type(error), default)
    return json_response({"error": str(error), "error_type": error_type}, status)
