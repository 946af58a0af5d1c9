"""`ModelStreamInfer`, tested with Triton's own client through Serve's own server."""

import asyncio
import queue
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest

from deployments.gateway import grpc_service as rpc
from deployments.generation.output import GeneratedChunk
from deployments.task import TASKS
from deployments.wire.open_inference.protos import SERVICE
from tests.fake_router import FakeRouter, sample
from tests.grpc_server import serve_grpc
from tests.wire.open_inference.triton_stubs import load_stubs

CLIENT, _ = load_stubs()


def request(model: str, *texts: str, id: str = "", **parameters: Any) -> dict[str, Any]:
    tensor = CLIENT.InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=object))
    return {"model_name": model, "inputs": [tensor], "request_id": id, "parameters": parameters or None}


async def stream_infer(client: Any, *requests: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Return each result, or its error."""

    async def send() -> AsyncIterator[dict[str, Any]]:
        for request in requests:
            yield request

    return [result async for result in client.stream_infer(send())]


def chunk_stream(*parts: str) -> Any:
    async def chunks(input: Any) -> AsyncIterator[GeneratedChunk]:
        chunk: GeneratedChunk = sample(TASKS["text-generation"].chunk)
        for index, text in enumerate(parts, 1):
            token = chunk.token.model_copy(update={"text": text, "special": False})
            whole = "".join(parts) if index == len(parts) else None
            yield chunk.model_copy(update={"index": index, "token": token, "generated_text": whole})

    return chunks


def texts(results: list[tuple[Any, Any]]) -> list[str]:
    return [result.as_numpy("generated_text")[0][0].decode() for result, _ in results]


def final_flags(results: list[tuple[Any, Any]]) -> list[bool]:
    parameters = [result.get_response().parameters for result, _ in results]
    return [by_name["triton_final_response"].bool_param for by_name in parameters]


async def test_generated_text_is_streamed_by_token(client, router: FakeRouter) -> None:
    router.streams["text-generation"] = chunk_stream("Once", " upon", " a time")
    results = await stream_infer(client, request("text-generation", "Tell me", id="7", max_new_tokens=3))
    assert texts(results) == ["Once", " upon", " a time"]
    assert final_flags(results) == [False, False, True]
    assert {result.get_response().id for result, _ in results} == {"7"}
    ((_, (input,), params),) = router.received
    assert (input.text, params.max_new_tokens) == ("Tell me", 3)


@pytest.mark.parametrize(("full", "first"), [(True, "Tell meOnce"), (False, "Once")])
async def test_full_text_begins_with_the_prompt(client, router: FakeRouter, full: bool, first: str) -> None:
    router.streams["text-generation"] = chunk_stream("Once", " upon", " a time")
    results = await stream_infer(client, request("text-generation", "Tell me", return_full_text=full))
    assert texts(results) == [first, " upon", " a time"]


async def test_parameter_stream_false_returns_one_response(client, router: FakeRouter) -> None:
    results = await stream_infer(client, request("text-generation", "a", "b", stream=False))
    assert final_flags(results) == [True]
    assert results[0][0].as_numpy("output").shape == (2, 1)


async def test_other_tasks_return_each_response_with_its_request_id(client, router: FakeRouter) -> None:
    requests = [request("sentiment", "a", id=str(number)) for number in range(20)]
    results = await stream_infer(client, *requests)
    assert {result.get_response().id for result, _ in results} == {str(number) for number in range(20)}


async def test_failed_requests_get_errors_and_the_stream_continues(client, router: FakeRouter) -> None:
    invalid = [
        request("unknown", "a"),
        request("text-generation", "a", "b"),
        request("text-generation", "a", heat=3),
    ]
    results = await stream_infer(client, *invalid, request("sentiment", "a"))
    errors = sorted(str(error) for _, error in results if error)
    assert len(results) == 4 and len(errors) == 3
    assert any("unknown" in error for error in errors)
    assert any("one row" in error for error in errors)
    assert any("heat" in error for error in errors)


async def test_client_that_cancels_stops_the_generation(client, router: FakeRouter) -> None:
    async def endless(input: Any) -> AsyncIterator[GeneratedChunk]:
        while True:
            async for chunk in chunk_stream("more", "and more")(input):
                yield chunk
            await asyncio.sleep(0.001)

    async def send() -> AsyncIterator[dict[str, Any]]:
        yield request("text-generation", "a")
        await asyncio.Event().wait()

    router.streams["text-generation"] = endless
    results = client.stream_infer(send())
    async for _, error in results:
        assert error is None
        break
    results.cancel()
    for _ in range(500):
        await asyncio.sleep(0.01)
        if router.closed_streams:
            break
    assert router.closed_streams == ["text-generation"]


async def test_too_large_message_ends_the_stream(
    client, router: FakeRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "MAX_BODY", 10)
    with pytest.raises(grpc.aio.AioRpcError, match="larger than max"):
        await stream_infer(client, request("sentiment", "a"))


async def test_invalid_message_ends_the_stream(router: FakeRouter) -> None:
    async with serve_grpc(router) as address, grpc.aio.insecure_channel(address) as channel:
        stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(iter([b"\xff\xff"]))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stream.read()
    assert error.value.code().name == "INTERNAL"


@pytest.mark.parametrize("empty", [False, True])
async def test_synchronous_client(router: FakeRouter, empty: bool) -> None:
    router.streams["text-generation"] = chunk_stream("Once", " more")
    received: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def infer(address: str) -> list[tuple[Any, Any]]:
        with CLIENT.InferenceServerClient(address) as client:
            client.start_stream(lambda result, error: received.put((result, error)))
            client.async_stream_infer(**request("text-generation", "a"), enable_empty_final_response=empty)
            return [received.get(timeout=5) for _ in range(2 + empty)]

    async with serve_grpc(router) as address:
        results = await asyncio.to_thread(infer, address)
    assert texts(results[:2]) == ["Once", " more"]
    assert final_flags(results) == ([False, False, True] if empty else [False, True])
