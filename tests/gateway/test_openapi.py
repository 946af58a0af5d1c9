"""The OpenAPI document: valid and complete."""

import json
from typing import Any

import pytest
from openapi_spec_validator import validate

import deployments.tasks  # noqa: F401 - registers the tasks
from deployments.dialect import HTTP_STATUS
from deployments.dialects import DIALECTS
from deployments.gateway.openapi import document, text
from deployments.task import TASKS, Task

DOCUMENT = document(DIALECTS)


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, path_item in DOCUMENT["paths"].items()
        for method, operation in path_item.items()
    ]


def test_document_is_valid() -> None:
    validate(DOCUMENT)


def test_every_operation_of_every_dialect_is_documented() -> None:
    expected = {(d.name, op.path, op.method.lower()) for d in DIALECTS for op in d.operations()}
    documented = {(operation["tags"][0], path, method) for path, method, operation in operations()}
    assert documented == expected


def test_operation_ids_are_unique() -> None:
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len({*ids}) == len(ids)


def test_every_reference_exists() -> None:
    for reference in {*references(DOCUMENT)}:
        value: Any = DOCUMENT
        for key in reference.removeprefix("#/").split("/"):
            value = value[key]


def references(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from references(part)


def test_task_operations_document_every_error_status() -> None:
    statuses = {str(status) for status in (*HTTP_STATUS.values(), 415)}
    for path, method, operation in operations():
        if method == "post" and operation["tags"] == ["huggingface"]:
            assert statuses < {*operation["responses"]}, path


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_task_has_request_and_response_types(task: Task) -> None:
    operation = DOCUMENT["paths"][f"/models/{{model_id}}/pipeline/{task.name}"]["post"]
    assert operation["summary"] == task.summary
    body = operation["requestBody"]["content"]
    response = operation["responses"]["200"]["content"]
    assert body["application/json"]["schema"]["$ref"].endswith(f"HuggingFace{task.title}Request")
    assert response["application/json"]["schema"]["$ref"].endswith(f"HuggingFace{task.title}Answer")
    assert ("text/event-stream" in response) == (task.chunk is not None)
    request = DOCUMENT["components"]["schemas"][f"HuggingFace{task.title}Request"]
    assert ("stream" in request["properties"]) == (task.chunk is not None)


def test_document_is_written_as_json() -> None:
    assert json.loads(text(DIALECTS)) == DOCUMENT
