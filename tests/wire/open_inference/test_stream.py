"""`ModelStreamInfer`, judged by Triton's own client, through Serve's own server."""

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
from tests.grpc_server import grpc_door
from tests.wire.open_inference.triton_stubs import triton

CLIENT, _ = triton()


def request(model: str, *texts: str, id: str = "", **parameters: Any) -> dict[str, Any]:
    tensor = CLIENT.InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=object))
    return {"model_name": model, "inputs": [tensor], "request_id": id, "parameters": parameters or None}


async def told(client: Any, *requests: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Each answer, or its error."""

    async def ask() -> AsyncIterator[dict[str, Any]]:
        for one in requests:
            yield one

    return [one async for one in client.stream_infer(ask())]


def write(*pieces: str) -> Any:
    async def chunks(input: Any) -> AsyncIterator[GeneratedChunk]:
        made: GeneratedChunk = sample(TASKS["text-generation"].chunk)
        for index, text in enumerate(pieces, 1):
            token = made.token.model_copy(update={"text": text, "special": False})
            whole = "".join(pieces) if index == len(pieces) else None
            yield made.model_copy(update={"index": index, "token": token, "generated_text": whole})

    return chunks


def texts(answers: list[tuple[Any, Any]]) -> list[str]:
    return [answer.as_numpy("generated_text")[0][0].decode() for answer, _ in answers]


def finals(answers: list[tuple[Any, Any]]) -> list[bool]:
    each = (answer.get_response().parameters for answer, _ in answers)
    return [parameters["triton_final_response"].bool_param for parameters in each]


async def test_generated_text_comes_in_pieces(client, router: FakeRouter) -> None:
    router.streams["text-generation"] = write("Once", " upon", " a time")
    answers = await told(client, request("text-generation", "Tell me", id="7", max_new_tokens=3))
    assert texts(answers) == ["Once", " upon", " a time"]
    assert finals(answers) == [False, False, True]
    assert {answer.get_response().id for answer, _ in answers} == {"7"}
    ((_, (asked,), params),) = router.asked
    assert (asked.text, params.max_new_tokens) == ("Tell me", 3)


@pytest.mark.parametrize(("full", "first"), [(True, "Tell meOnce"), (False, "Once")])
async def test_the_full_text_begins_with_what_was_given(
    client, router: FakeRouter, full: bool, first: str
) -> None:
    router.streams["text-generation"] = write("Once", " upon", " a time")
    answers = await told(client, request("text-generation", "Tell me", return_full_text=full))
    assert texts(answers) == [first, " upon", " a time"]


async def test_it_comes_whole_where_asked(client, router: FakeRouter) -> None:
    answers = await told(client, request("text-generation", "a", "b", stream=False))
    assert finals(answers) == [True]
    assert answers[0][0].as_numpy("output").shape == (2, 1)


async def test_other_tasks_answer_each_request_with_its_id(client, router: FakeRouter) -> None:
    asked = [request("sentiment", "a", id=str(number)) for number in range(20)]
    answers = await told(client, *asked)
    assert {answer.get_response().id for answer, _ in answers} == {str(number) for number in range(20)}


async def test_what_fails_is_told_and_the_stream_goes_on(client, router: FakeRouter) -> None:
    odd = [
        request("nobody", "a"),
        request("text-generation", "a", "b"),
        request("text-generation", "a", heat=3),
    ]
    answers = await told(client, *odd, request("sentiment", "a"))
    errors = sorted(str(error) for _, error in answers if error)
    assert len(answers) == 4 and len(errors) == 3
    assert any("nobody" in error for error in errors)
    assert any("one row" in error for error in errors)
    assert any("heat" in error for error in errors)


async def test_who_leaves_stops_the_work(client, router: FakeRouter) -> None:
    async def endless(input: Any) -> AsyncIterator[GeneratedChunk]:
        while True:
            async for chunk in write("more", "and more")(input):
                yield chunk
            await asyncio.sleep(0.001)

    async def ask() -> AsyncIterator[dict[str, Any]]:
        yield request("text-generation", "a")
        await asyncio.Event().wait()

    router.streams["text-generation"] = endless
    answers = client.stream_infer(ask())
    async for _, error in answers:
        assert error is None
        break
    answers.cancel()
    for _ in range(500):
        await asyncio.sleep(0.01)
        if router.closed:
            break
    assert router.closed == ["text-generation"]


async def test_a_message_too_large_ends_the_stream(
    client, router: FakeRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "MAX_BODY", 10)
    with pytest.raises(grpc.aio.AioRpcError, match="larger than max"):
        await told(client, request("sentiment", "a"))


async def test_what_is_no_message_ends_the_stream(router: FakeRouter) -> None:
    async with grpc_door(router) as address, grpc.aio.insecure_channel(address) as channel:
        stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(iter([b"\xff\xff"]))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stream.read()
    assert error.value.code().name == "INTERNAL"


@pytest.mark.parametrize("empty", [False, True])
async def test_the_blocking_client(router: FakeRouter, empty: bool) -> None:
    router.streams["text-generation"] = write("Once", " more")
    came: queue.Queue[tuple[Any, Any]] = queue.Queue()

    def ask(address: str) -> list[tuple[Any, Any]]:
        with CLIENT.InferenceServerClient(address) as client:
            client.start_stream(lambda result, error: came.put((result, error)))
            client.async_stream_infer(**request("text-generation", "a"), enable_empty_final_response=empty)
            return [came.get(timeout=5) for _ in range(2 + empty)]

    async with grpc_door(router) as address:
        answers = await asyncio.to_thread(ask, address)
    assert texts(answers[:2]) == ["Once", " more"]
    assert finals(answers) == ([False, False, True] if empty else [False, True])
