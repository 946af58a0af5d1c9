"""OpenAI's error format: a response, or an event in a stream that has started."""

from typing import NamedTuple

from pydantic import BaseModel
from starlette.responses import Response

from deployments.errors import ContextLengthExceeded, InferenceError, ModelNotFound
from deployments.wire.http import UnsupportedMedia, json_response


class NotStored(InferenceError):
    """The client refers to a response, but Roster stores none."""

    kind = "not_found"


class ErrorFormat(NamedTuple):
    """How OpenAI reports a kind of error; `retryable` is false if clients must not retry."""

    status: int
    type: str
    code: str | None = None
    retryable: bool = True


FORMATS = {
    "invalid": ErrorFormat(400, "invalid_request_error"),
    "unauthorized": ErrorFormat(401, "authentication_error", "invalid_api_key"),
    "forbidden": ErrorFormat(403, "permission_error"),
    "not_found": ErrorFormat(404, "invalid_request_error"),
    "too_large": ErrorFormat(413, "invalid_request_error"),
    "overloaded": ErrorFormat(429, "rate_limit_error", "rate_limit_exceeded"),
    "internal": ErrorFormat(500, "server_error", retryable=False),
    "unavailable": ErrorFormat(503, "server_error", "model_not_ready"),
    "timeout": ErrorFormat(504, "server_error", "timeout"),
}


class OpenAIError(BaseModel):
    """The error; `param` is the field of the request that caused it, if one did."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIFailure(BaseModel):
    """An error in OpenAI's format."""

    error: OpenAIError


def to_openai_failure(error: InferenceError) -> OpenAIFailure:
    """Convert an error to OpenAI's format."""
    error_format = FORMATS[error.kind]
    param, code = error.field, error_format.code
    if isinstance(error, ModelNotFound):
        param, code = "model", "model_not_found"
    if isinstance(error, ContextLengthExceeded):
        code = "context_length_exceeded"
    return OpenAIFailure(
        error=OpenAIError(message=str(error), type=error_format.type, param=param, code=code)
    )


def error_event(error: InferenceError) -> bytes:
    """Encode an error as the data of a server-sent event."""
    return to_openai_failure(error).model_dump_json().encode()


def error_response(error: InferenceError, request_id: str) -> Response:
    """Convert an error to a response.

    OpenAI's clients retry by status; the header `x-should-retry: false` stops them.
    """
    error_format = FORMATS[error.kind]
    status = 415 if isinstance(error, UnsupportedMedia) else error_format.status
    response = json_response(to_openai_failure(error).model_dump(), status)
    if not error_format.retryable:
        response.headers["x-should-retry"] = "false"
    return response
