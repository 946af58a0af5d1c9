"""The OpenAPI document of every dialect."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic.json_schema import models_json_schema

from deployments import errors
from deployments.dialect import HTTP_STATUS, Dialect, JsonSchema, Operation
from deployments.errors import InferenceError

PARAMETER = "^[A-Za-z0-9][A-Za-z0-9._-]*$"
READING = {"not_found", "unavailable", "internal"}
"""The kinds of error that a GET can meet."""

Mode = Literal["validation", "serialization"]
References = Mapping[Any, Mapping[str, Any]]


def document(dialects: Sequence[Dialect]) -> dict[str, Any]:
    """Every operation of `dialects`, with the types of all that goes in and out, as OpenAPI 3.1."""
    spoken = [(dialect, dialect.operations()) for dialect in dialects]
    types = dict.fromkeys(pair for dialect, operations in spoken for pair in _types(dialect, operations))
    references, definitions = models_json_schema(list(types), ref_template="#/components/schemas/{model}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Roster", "version": "1", "description": "Hugging Face models, in every dialect."},
        "tags": [{"name": dialect.name} for dialect, operations in spoken if operations],
        "paths": _paths(spoken, references),
        "components": {
            "schemas": definitions.get("$defs", {}),
            "responses": {
                name: told for dialect in dialects for name, told in _failures(dialect, references)
            },
        },
    }


def _types(dialect: Dialect, operations: list[Operation]) -> Iterator[tuple[Any, Mode]]:
    """The pydantic models that a dialect speaks of, each with the direction in which it goes."""
    bodies = [operation.body for operation in operations]
    answers = [type_ for operation in operations for type_ in (operation.response, operation.event)]
    yield from ((type_, "validation") for type_ in bodies if isinstance(type_, type))
    yield from ((type_, "serialization") for type_ in [*answers, dialect.error] if isinstance(type_, type))


def _paths(spoken: list[tuple[Dialect, list[Operation]]], references: References) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for dialect, operations in spoken:
        for operation in operations:
            told = _operation(dialect, operation, references)
            paths.setdefault(operation.path, {})[operation.method.lower()] = told
    return paths


def _operation(dialect: Dialect, operation: Operation, references: References) -> dict[str, Any]:
    parameters = re.findall(r"{(\w+)}", operation.path)
    words = re.findall(r"\w+", f"{dialect.name} {operation.method.lower()} {operation.path}")
    failures = _statuses(dialect, READING if operation.method == "GET" else HTTP_STATUS)
    told: dict[str, Any] = {
        "operationId": "_".join(words),
        "summary": operation.summary,
        "tags": [dialect.name],
        "responses": {
            "200": {"description": "The answer", **_answer(operation, references)},
            **{
                str(status): {"$ref": f"#/components/responses/{dialect.name}_{status}"}
                for status in failures
            },
        },
    }
    if parameters:
        told["parameters"] = [_parameter(name) for name in parameters]
    if body := _body(operation, references):
        told["requestBody"] = {"required": True, **body}
    return told


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": PARAMETER}}


def _body(operation: Operation, references: References) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.body:
        content["application/json"] = {"schema": _schema(operation.body, "validation", references)}
    if operation.raw_body:
        content[operation.raw_body] = {"schema": {"type": "string", "format": "binary"}}
    return {"content": content} if content else {}


def _answer(operation: Operation, references: References) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.response:
        content["application/json"] = {"schema": _schema(operation.response, "serialization", references)}
    if operation.event:
        content["text/event-stream"] = {"schema": _schema(operation.event, "serialization", references)}
    return {"content": content} if content else {}


def _schema(type_: JsonSchema, mode: Mode, references: References) -> Mapping[str, Any]:
    return references[type_, mode] if isinstance(type_, type) else type_


def _failures(dialect: Dialect, references: References) -> Iterator[tuple[str, dict[str, Any]]]:
    """The dialect's response for every error status, under the name that its operations refer to."""
    schema = _schema(dialect.error or {}, "serialization", references)
    for status, description in _statuses(dialect, HTTP_STATUS).items():
        content = {"application/json": {"schema": schema}}
        yield f"{dialect.name}_{status}", {"description": description, "content": content}


def _statuses(dialect: Dialect, kinds: Collection[str]) -> dict[int, str]:
    """What a dialect says of errors of the given kinds: a description for each HTTP status."""
    statuses: dict[int, set[str]] = {}
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, InferenceError) and error.kind in kinds:
            status = dialect.error_response(error("what went wrong"), "").status_code
            statuses.setdefault(status, set()).add(error.kind.replace("_", " "))
    told = {status: ", ".join(sorted(meanings)) for status, meanings in statuses.items()}
    return dict(sorted({**told, **(dialect.extra_error_responses if "invalid" in kinds else {})}.items()))


def text(dialects: Sequence[Dialect]) -> str:
    """The document as it is written to the file."""
    return json.dumps(document(dialects), indent=2, ensure_ascii=False) + "\n"
