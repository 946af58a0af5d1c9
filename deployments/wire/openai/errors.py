"""What goes wrong, as OpenAI says it: in a response of its own, or as an event where one has begun."""

from typing import NamedTuple

from pydantic import BaseModel
from starlette.responses import Response

from deployments.errors import InferenceError, ModelNotFound
from deployments.wire.http import UnsupportedMedia, json_response


class NotStored(InferenceError):
    """What is asked for again was never kept."""

    kind = "not_found"


class Form(NamedTuple):
    """How a kind of error is said; `again` is whether a client does well to ask once more."""

    status: int
    type: str
    code: str | None = None
    again: bool = True


FORMS = {
    "invalid": Form(400, "invalid_request_error"),
    "unauthorized": Form(401, "authentication_error", "invalid_api_key"),
    "forbidden": Form(403, "permission_error"),
    "not_found": Form(404, "invalid_request_error"),
    "too_large": Form(413, "invalid_request_error"),
    "overloaded": Form(429, "rate_limit_error", "rate_limit_exceeded"),
    "internal": Form(500, "server_error", again=False),
    "unavailable": Form(503, "server_error", "model_not_ready"),
    "timeout": Form(504, "server_error", "timeout"),
}


class OpenAIError(BaseModel):
    """What went wrong, and in which field of the request, where it is one's fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIFailure(BaseModel):
    """An error, as OpenAI says it."""

    error: OpenAIError


def failure(error: InferenceError) -> OpenAIFailure:
    form = FORMS[error.kind]
    param, code = error.field, form.code
    if isinstance(error, ModelNotFound):
        param, code = "model", "model_not_found"
    return OpenAIFailure(error=OpenAIError(message=str(error), type=form.type, param=param, code=code))


def event_of(error: InferenceError) -> bytes:
    """The error as the data of an event, in a stream that had begun."""
    return failure(error).model_dump_json().encode()


def error_response(error: InferenceError, request_id: str) -> Response:
    """An error's response. Clients try again by themselves, unless they are told that it is no use."""
    form = FORMS[error.kind]
    status = 415 if isinstance(error, UnsupportedMedia) else form.status
    response = json_response(failure(error).model_dump(), status)
    if not form.again:
        response.headers["x-should-retry"] = "false"
    return response
