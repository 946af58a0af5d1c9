"""Write errors as Caikit does, or as its web framework does if it refuses a request before Caikit."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import RootModel
from pydantic_core import to_json
from starlette.responses import Response

from deployments.dialect import HTTP_STATUS
from deployments.errors import InferenceError, InvalidInput
from deployments.schema import Schema
from deployments.wire.forms import UnknownKey
from deployments.wire.http import RouteNotFound, UnsupportedMedia, json_response

STATUS = {**HTTP_STATUS, "invalid": 400}
FRAMEWORK_STATUS = {UnsupportedMedia: 415, UnknownKey: 422, RouteNotFound: 404}
"""Errors that Caikit's web framework reports, in its own form."""


class CaikitFailure(Schema):
    """An error. For a body of the wrong shape, `additional_info` lists every error in it."""

    details: str
    additional_info: list[dict[str, Any]] = []
    code: int
    id: str


class FrameworkFailure(Schema):
    """An error of Caikit's web framework: an unknown route, a media type, or an unknown key of a form."""

    detail: str


class CaikitError(RootModel[CaikitFailure | FrameworkFailure]):
    """An error of Caikit, or of its web framework before Caikit sees the request."""


class Unprocessable(InvalidInput):
    """A body that is JSON of the wrong shape; `errors` are pydantic's."""

    def __init__(self, errors: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(errors[0]["msg"], field=".".join(map(str, errors[0]["loc"])) or None)
        self.errors = errors


def error_response(error: InferenceError, request_id: str) -> Response:
    """Return the response for an error, with Caikit's body or that of its web framework."""
    for kind, status in FRAMEWORK_STATUS.items():
        if isinstance(error, kind):
            return json_response({"detail": str(error)}, status)
    if isinstance(error, Unprocessable):
        failure = {"details": str(error), "additional_info": error.errors, "code": 422, "id": request_id}
        # pydantic's serializer writes every value that pydantic parses, also integers over 64 bits.
        body = to_json(failure, inf_nan_mode="null", fallback=str)
        return Response(body, 422, media_type="application/json")
    status = STATUS[error.kind]
    return json_response({"details": str(error), "code": status, "id": request_id}, status)
