"""Bodies that the gateway does not read receive the documented status and body, on every route."""

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from deployments.dialects import DIALECTS
from deployments.gateway import http_app
from deployments.gateway.openapi import document
from deployments.media import MAX_BYTES
from deployments.task import TASKS
from deployments.wire.http import MAX_BODY
from tests.fake_router import FakeRouter

DOCUMENT = document(DIALECTS)
POSTS = sorted(path for path, item in DOCUMENT["paths"].items() if "post" in item)
WITHOUT_BODY = {"embed_sparse"}  # refused before its body is read
READS_MEDIA_TYPE = {"caikit": "text/plain", "openai": "audio/wav"}  # and a type that each refuses


def model_of(path: str) -> str:
    """Return a model that the route can use."""
    last = path.rpartition("/")[2]
    models = {
        **{task.name: task.name for task in TASKS.values()},
        **dict.fromkeys(("similarity", "rerank", "score"), "sentence-similarity"),
        **dict.fromkeys(("generate", "generate_stream"), "text-generation"),
        "predict": "sentiment",
    }
    return models.get(last, "embeddings")


async def check_refused(path: str, status: int, headers: dict[str, str]) -> None:
    router, model = FakeRouter(), model_of(path)
    router.default_model = model
    transport = httpx.ASGITransport(http_app.build(router, DIALECTS))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        url = path.format(model_id=model, task=model, version="1")
        response = await http.post(url, content=b"{}", headers=headers)
    assert response.status_code == status, response.text
    documented = DOCUMENT["paths"][path]["post"]["responses"][str(status)]
    described = DOCUMENT["components"]["responses"][documented["$ref"].rpartition("/")[2]]
    media_type = response.headers["content-type"].partition(";")[0]
    schema = described["content"][media_type]["schema"]
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(response.json())


@pytest.mark.parametrize("path", [path for path in POSTS if path.rpartition("/")[2] not in WITHOUT_BODY])
async def test_unsupported_encoding_receives_the_documented_415(path: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": "br"}
    await check_refused(path, 415, headers)


@pytest.mark.parametrize("path", [path for path in POSTS if path.rpartition("/")[2] not in WITHOUT_BODY])
async def test_too_large_body_receives_the_documented_413(path: str) -> None:
    headers = {"content-type": "application/json", "content-length": str(MAX_BODY + 1)}
    await check_refused(path, 413, headers)


@pytest.mark.parametrize(
    "path",
    [path for path in POSTS if DOCUMENT["paths"][path]["post"]["tags"][0] in READS_MEDIA_TYPE],
)
async def test_unsupported_media_type_receives_the_documented_415(path: str) -> None:
    (dialect,) = DOCUMENT["paths"][path]["post"]["tags"]
    await check_refused(path, 415, {"content-type": READS_MEDIA_TYPE[dialect]})


def test_limit_of_every_body_is_documented() -> None:
    for path in POSTS:
        body: dict[str, Any] = DOCUMENT["paths"][path]["post"]["requestBody"]
        assert f"{MAX_BODY:,} bytes" in body["description"]
        limits = {type_: content["schema"].get("maxLength") for type_, content in body["content"].items()}
        assert limits.get("image/*", MAX_BYTES) == MAX_BYTES
        assert limits.get("application/octet-stream", MAX_BODY) == MAX_BODY
