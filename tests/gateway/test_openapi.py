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
        (path, method, told) for path, place in DOCUMENT["paths"].items() for method, told in place.items()
    ]


def test_it_is_valid() -> None:
    validate(DOCUMENT)


def test_every_operation_of_every_dialect_is_in_it() -> None:
    spoken = {(d.name, op.path, op.method.lower()) for d in DIALECTS for op in d.operations()}
    assert {(told["tags"][0], path, method) for path, method, told in operations()} == spoken


def test_operation_ids_are_unique() -> None:
    ids = [told["operationId"] for _, _, told in operations()]
    assert len({*ids}) == len(ids)


def test_every_reference_leads_somewhere() -> None:
    for reference in {*references(DOCUMENT)}:
        place: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def references(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from references(part)


def test_whatever_performs_tells_its_errors() -> None:
    for path, method, told in operations():
        if method == "post" and told["tags"] == ["huggingface"]:
            assert {str(status) for status in (*HTTP_STATUS.values(), 415)} < {*told["responses"]}, path


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_every_task_is_typed(task: Task) -> None:
    told = DOCUMENT["paths"][f"/models/{{model_id}}/pipeline/{task.name}"]["post"]
    assert told["summary"] == task.summary
    body = told["requestBody"]["content"]
    answer = told["responses"]["200"]["content"]
    assert body["application/json"]["schema"]["$ref"].endswith(f"HuggingFace{task.title}Request")
    assert answer["application/json"]["schema"]["$ref"].endswith(f"HuggingFace{task.title}Answer")
    assert ("text/event-stream" in answer) == (task.chunk is not None)
    request = DOCUMENT["components"]["schemas"][f"HuggingFace{task.title}Request"]
    assert ("stream" in request["properties"]) == (task.chunk is not None)


def test_it_is_plain_json() -> None:
    assert json.loads(text(DIALECTS)) == DOCUMENT
