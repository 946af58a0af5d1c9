"""The OpenAPI document of every dialect."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic.json_schema import models_json_schema

from deployments import errors
from deployments.dialect import HTTP_STATUS, Dialect, JsonSchema, Operation
from deployments.errors import InferenceError
from deployments.wire.http import MAX_BODY

PARAMETER_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._-]*$"
GET_ERROR_KINDS = {"not_found", "unavailable", "internal"}
"""The kinds of error that a GET may return."""
BODY = f"At most {MAX_BODY:,} bytes, also after decompression; the Content-Encoding may be gzip or deflate."

Mode = Literal["validation", "serialization"]
References = Mapping[Any, Mapping[str, Any]]


def document(dialects: Sequence[Dialect]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of `dialects`: every operation, and the types of its JSON."""
    operations = [(dialect, dialect.operations()) for dialect in dialects]
    types = dict.fromkeys(pair for dialect, owned in operations for pair in _types(dialect, owned))
    references, definitions = models_json_schema(list(types), ref_template="#/components/schemas/{model}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Roster", "version": "1", "description": "Hugging Face models, in every dialect."},
        "tags": [{"name": dialect.name} for dialect, owned in operations if owned],
        "paths": _paths(operations, references),
        "components": {
            "schemas": definitions.get("$defs", {}),
            "responses": {
                name: response
                for dialect in dialects
                for name, response in _error_responses(dialect, references)
            },
        },
    }


def _types(dialect: Dialect, operations: list[Operation]) -> Iterator[tuple[Any, Mode]]:
    """Yield the pydantic models of a dialect: requests to validate, responses to serialize."""
    requests = [operation.body for operation in operations]
    responses = [type_ for operation in operations for type_ in (operation.response, operation.event)]
    yield from ((type_, "validation") for type_ in requests if isinstance(type_, type))
    yield from ((type_, "serialization") for type_ in [*responses, dialect.error] if isinstance(type_, type))


def _paths(operations: list[tuple[Dialect, list[Operation]]], references: References) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for dialect, owned in operations:
        for operation in owned:
            path_item = paths.setdefault(operation.path, {})
            path_item[operation.method.lower()] = _operation(dialect, operation, references)
    return paths


def _operation(dialect: Dialect, operation: Operation, references: References) -> dict[str, Any]:
    parameters = re.findall(r"{(\w+)}", operation.path)
    id_parts = re.findall(r"\w+", f"{dialect.name} {operation.method.lower()} {operation.path}")
    statuses = _error_statuses(dialect, GET_ERROR_KINDS if operation.method == "GET" else HTTP_STATUS)
    error_responses = {
        str(status): {"$ref": f"#/components/responses/{dialect.name}_{status}"} for status in statuses
    }
    described: dict[str, Any] = {
        "operationId": "_".join(id_parts),
        "summary": operation.summary,
        "tags": [dialect.name],
        "responses": {
            "200": {"description": "The response", **_response(operation, references)},
            **error_responses,
        },
    }
    if parameters:
        described["parameters"] = [_parameter(name) for name in parameters]
    if body := _request_body(operation, references):
        described["requestBody"] = {"required": True, **body}
    return described


def _parameter(name: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": PARAMETER_PATTERN}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _request_body(operation: Operation, references: References) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.body:
        content["application/json"] = {"schema": _schema(operation.body, "validation", references)}
    if operation.raw_body:
        limit = operation.raw_body_limit or MAX_BODY
        content[operation.raw_body] = {"schema": {"type": "string", "format": "binary", "maxLength": limit}}
    return {"description": BODY, "content": content} if content else {}


def _response(operation: Operation, references: References) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.response:
        content["application/json"] = {"schema": _schema(operation.response, "serialization", references)}
    if operation.event:
        content["text/event-stream"] = {"schema": _schema(operation.event, "serialization", references)}
    return {"content": content} if content else {}


def _schema(type_: JsonSchema, mode: Mode, references: References) -> Mapping[str, Any]:
    return references[type_, mode] if isinstance(type_, type) else type_


def _error_responses(dialect: Dialect, references: References) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the dialect's response for each error status, with the name that its operations refer to."""
    schema = _schema(dialect.error or {}, "serialization", references)
    for status, description in _error_statuses(dialect, HTTP_STATUS).items():
        content = {"application/json": {"schema": schema}}
        yield f"{dialect.name}_{status}", {"description": description, "content": content}


def _error_statuses(dialect: Dialect, kinds: Collection[str]) -> dict[int, str]:
    """Return a description for each HTTP status that the dialect uses for errors of these kinds."""
    kinds_by_status: dict[int, set[str]] = {}
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, InferenceError) and error.kind in kinds:
            status = dialect.error_response(error("a message"), "").status_code
            kinds_by_status.setdefault(status, set()).add(error.kind.replace("_", " "))
    descriptions = {status: ", ".join(sorted(names)) for status, names in kinds_by_status.items()}
    extra = dialect.extra_error_responses if "invalid" in kinds else {}
    return dict(sorted({**descriptions, **extra}.items()))


def text(dialects: Sequence[Dialect]) -> str:
    """Return the document as JSON, in the form of `docs/openapi.json`."""
    return json.dumps(document(dialects), indent=2, ensure_ascii=False) + "\n"
