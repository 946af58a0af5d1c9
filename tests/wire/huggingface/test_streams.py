"""Streams of server-sent events: errors before and after the first chunk, and disconnects."""

import asyncio
import json
from typing import Any

import pytest

from deployments.errors import Overloaded
from deployments.task import TASKS, Task
from tests.fake_router import sample
from tests.wire.huggingface.task_marks import STREAMING_TASKS


@pytest.mark.parametrize("task", STREAMING_TASKS, ids=lambda task: task.name)
async def test_stream_of_batch_is_422(http, task: Task) -> None:
    body = {"inputs": [task.examples()[0]], "stream": True}
    response = await http.post(f"/models/{task.name}", json=body)
    assert response.status_code == 422
    assert "list of inputs" in response.json()["error"]


async def test_error_before_first_chunk_has_http_status(http, router) -> None:
    async def chunks(_: Any) -> Any:
        raise Overloaded("full")
        yield

    router.streams["text-generation"] = chunks
    response = await http.post("/models/text-generation", json={"inputs": "hi", "stream": True})
    assert response.status_code == 429
    assert response.json() == {"error": "full", "error_type": "overloaded"}


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (Overloaded("full"), {"error": "full", "error_type": "overloaded"}),
        (ValueError("secret"), {"error": "internal error, request id 17", "error_type": "generation"}),
    ],
)
async def test_error_after_first_chunk_is_event(
    http, router, error: Exception, event: dict[str, str]
) -> None:
    async def chunks(_: Any) -> Any:
        yield sample(TASKS["text-generation"].chunk)
        raise error

    router.streams["text-generation"] = chunks
    body = {"inputs": "hi", "stream": True}
    response = await http.post("/models/text-generation", json=body, headers={"x-request-id": "17"})
    assert response.status_code == 200
    assert json.loads(response.text.strip().split("\n\n")[-1].removeprefix("data: ")) == event


@pytest.mark.parametrize("chunks_before", [0, 1, 2])
async def test_client_disconnect_closes_stream(router, served, chunks_before: int) -> None:
    async def chunks(_: Any) -> Any:
        for _index in range(chunks_before):
            yield sample(TASKS["text-generation"].chunk)
        await asyncio.sleep(60)

    router.streams["text-generation"] = chunks
    body = json.dumps({"inputs": "hi", "stream": True}).encode()
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": body, "more_body": False})
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/models/text-generation", "headers": []}
    serve = asyncio.create_task(served[1](scope, messages.get, send))
    for _ in range(50):
        await asyncio.sleep(0)
    assert len([m for m in sent if m.get("body")]) == chunks_before
    assert not router.closed_streams
    messages.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(serve, 1)
    assert router.closed_streams == ["text-generation"]
