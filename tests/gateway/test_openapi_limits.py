"""The limits in the OpenAPI document are those that the gateway enforces, in both directions.

Each test takes a working request, changes one field to a value at or beyond a limit, and compares the
decision of the gateway with that of the document.
"""

import copy
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from deployments.dialects import DIALECTS
from deployments.gateway import http_app
from deployments.gateway.openapi import document
from deployments.media import MAX_BASE64
from deployments.schema import MAX_ITEMS, MAX_TEXT, Vector
from deployments.task import TASKS
from tests.fake_router import FakeRouter

DOCUMENT = document(DIALECTS)
SIMILARITY = TASKS["sentence-similarity"]
MISSING = object()
UNKNOWN = "colour"  # the name of a field that no request has
REFUSED = {400, 413, 422}
# Errors that no schema can express: they depend on other fields, or on the model.
INEXPRESSIBLE = (
    *("the last turn is empty", "content`: Field required"),
    *("`truncation_direction`: Extra inputs", "`return_full_text`: Extra inputs"),
    *("has no data", "has no input", "is not valid base64", "which its content_type requires"),
)
# Fields that must agree with others.
DEPENDENT = {"best_of", "top_logprobs", "shape", "data", "datatype", "binary_data_size", "classification"}


class AnyTokenRouter(FakeRouter):
    """A router whose models know every token."""

    async def decode(self, model_id: str, ids: list[list[int]], skip_special: bool = True) -> list[str]:
        return ["word"] * len(ids)


def calls() -> Iterator[tuple[str, str, Any]]:
    """Yield a route's path in the document, a model, and a working JSON body.

    The Hub's routes for any task take the union of the tasks' requests; those of one task are tested.
    """
    for dialect in DIALECTS:
        for task in TASKS.values():
            for call in dialect.supported_calls(task, "{model_id}"):
                is_described = call.path in DOCUMENT["paths"] and call.path != "/models/{model_id}"
                if call.method == "POST" and not call.streams and is_described:
                    named = dict.fromkeys(call.body.keys() & {"model", "model_id"}, task.name)
                    yield call.path, task.name, json.loads(json.dumps({**call.body, **named}))
    yield "/v2/repository/index", "sentiment", {"ready": True}
    for verb in ("load", "unload"):
        yield f"/v2/repository/models/{{model_id}}/{verb}", "sentiment", {"parameters": {}}


CALLS = [*calls()]


def choices(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the alternatives of a schema, with the limits beside them."""
    name = schema.get("$ref", "").rpartition("/")[2]
    schema = DOCUMENT["components"]["schemas"][name] if name else schema
    alternatives = schema.get("anyOf", schema.get("oneOf"))
    if alternatives is None:
        yield schema
        return
    limits = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
    for alternative in alternatives:
        for choice in choices(alternative):
            yield {**limits, **choice}


def probes(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    """Yield values at and beyond the limits of a field, documented or not."""
    for choice in choices(schema):
        match choice.get("type"):
            case "string":
                yield from string_probes(choice)
            case "integer" | "number":
                yield from number_probes(choice)
            case "array":
                yield from array_probes(choice, value)
            case "object":
                yield from object_probes(choice, value if isinstance(value, dict) else {})


def string_probes(schema: dict[str, Any]) -> Iterator[Any]:
    """Yield texts. An image over its limit takes long to compare; test_media.py has one."""
    yield ""
    if "enum" in schema or "const" in schema:
        yield from ("no such value", *schema.get("enum", ()))
    if schema.get("maxLength") != MAX_BASE64:
        yield "x" * (min(schema.get("maxLength", MAX_TEXT), MAX_TEXT) + 1)


def number_probes(schema: dict[str, Any]) -> Iterator[Any]:
    yield from (-(10**9), -1, 0, 10**9)
    for key, step in (("minimum", -1), ("exclusiveMinimum", 0), ("maximum", 1), ("exclusiveMaximum", 0)):
        if key in schema:
            yield from (schema[key], schema[key] + step)


def array_probes(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    items = schema.get("items", {})
    is_example = isinstance(value, list) and value
    item = value[0] if is_example else {"string": "a", "integer": 1}.get(items.get("type"), MISSING)
    yield []
    if item is not MISSING:
        yield [item] * (min(schema.get("maxItems", MAX_ITEMS), MAX_ITEMS) + 1)
        for probe in probes(items, item):
            yield [probe, *value[1:]] if is_example else [probe]


def object_probes(schema: dict[str, Any], value: dict[str, Any]) -> Iterator[Any]:
    yield {**value, UNKNOWN: "red"}
    for name in value:
        yield {other: value[other] for other in value if other != name}
    for name, field in schema.get("properties", {}).items():
        if name not in DEPENDENT:
            for probe in probes(field, value.get(name, MISSING)):
                yield {**value, name: probe}


def similarities(input: Any) -> Any:
    """Return a score per sentence, or vectors without a source sentence."""
    if input.source_sentence is None:
        return SIMILARITY.output(embeddings=[Vector(index=0, values=[0.5])])
    return SIMILARITY.output(similarities=[0.5] * len(input.sentences))


def client() -> httpx.AsyncClient:
    router = AnyTokenRouter()
    router.outputs[SIMILARITY.name] = similarities
    router.allow_model_control = True
    app = http_app.build(router, DIALECTS)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


@pytest.mark.parametrize(("path", "model", "body"), CALLS, ids=[f"{call[0]} {call[1]}" for call in CALLS])
async def test_gateway_and_document_refuse_the_same_values(path: str, model: str, body: Any) -> None:
    content = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    differences = []
    async with client() as http:
        for changed in [body, *probes(schema, copy.deepcopy(body))]:
            response = await http.post(path.format(model_id=model), json=changed)
            if any(sentence in response.text for sentence in INEXPRESSIBLE):
                continue
            if (response.status_code in REFUSED) == validator.is_valid(changed):
                sent, received = json.dumps(changed)[:300], response.text[:300]
                differences.append(f"{response.status_code} {sent} {received}")
    assert not differences, "\n".join(differences)
