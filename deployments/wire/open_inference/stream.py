"""Many requests on one stream, each answered when it can be; generated text comes in pieces.

Requests of one stream run together, and share batches as those of many callers do. What fails is told in its
own answer, and the stream goes on.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from deployments.dialect import StreamRpc
from deployments.wire.http import to_public_error
from deployments.wire.open_inference import service
from deployments.wire.open_inference.generate import streams
from deployments.wire.open_inference.protos import SERVICE, STREAMING, describe
from deployments.wire.open_inference.rpcs import answered, inference, parse
from deployments.wire.open_inference.tensors import Tensor

if TYPE_CHECKING:
    from deployments.routing.router import Router

AT_ONCE = 100  # requests of one stream
STREAM, EMPTY_FINAL = "stream", "triton_enable_empty_final_response"  # of a request
FINAL = "triton_final_response"  # of an answer


def rpc() -> StreamRpc:
    """`ModelStreamInfer`."""
    asked, told = describe()[STREAMING]

    async def call(
        router: "Router", requests: AsyncIterator[bytes], metadata: Mapping[str, str]
    ) -> AsyncGenerator[bytes, None]:
        stream = Stream(router)
        reading = asyncio.get_running_loop().create_task(
            stream.read(parse(asked, raw) async for raw in requests)
        )
        try:
            async for answer in stream.told():
                yield told(**answer).SerializeToString()
        finally:
            reading.cancel()

    return StreamRpc(SERVICE, STREAMING, call)


class Stream:
    """One caller's requests, and the answers to all of them in the order in which they come about."""

    def __init__(self, router: "Router") -> None:
        self._router = router
        self._places = asyncio.Semaphore(AT_ONCE)
        self._told: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue(AT_ONCE)

    async def told(self) -> AsyncGenerator[dict[str, Any], None]:
        """Each answer, as fields of its message. Raises what the requests could not be read for."""
        while (one := await self._told.get()) is not None:
            if isinstance(one, Exception):
                raise one
            yield one

    async def read(self, requests: AsyncIterator[Any]) -> None:
        """Answer the requests until they end, or this is cancelled."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            async for request in requests:
                await self._places.acquire()
                task = asyncio.get_running_loop().create_task(self._answer(request))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)
            await self._told.put(None)
        except Exception as error:
            await self._told.put(error)
        finally:
            for task in tasks:
                task.cancel()

    async def _answer(self, request: Any) -> None:
        try:
            async with aclosing(_answers(self._router, request)) as each:
                async for one in each:
                    await self._told.put({"infer_response": one})
        except Exception as error:
            why = str(to_public_error(error, uuid.uuid4().hex))
            named = {"model_name": request.model_name, "id": request.id}
            await self._told.put({"error_message": why, "infer_response": named})
        finally:
            self._places.release()


async def _answers(router: "Router", asked: Any) -> AsyncGenerator[dict[str, Any], None]:
    """One request's: pieces of generated text, or where its parameter `stream` is false, the whole answer."""
    task = service.find_task(router, asked.model_name, asked.model_version)
    request = inference(asked)
    wants, empty = request.parameters.pop(STREAM, True), request.parameters.pop(EMPTY_FINAL, False)
    if wants and streams(task):
        stream = service.stream(router, asked.model_name, asked.model_version, request)
        async with aclosing(stream) as pieces:
            async for text, last in pieces:
                tensor = Tensor(service.GENERATED, "BYTES", (1, 1), [text.encode()])
                yield answered(asked, [tensor], **{FINAL: last and not empty})
    else:
        tensors = await service.infer(router, asked.model_name, asked.model_version, request)
        yield answered(asked, tensors, **{FINAL: not empty})
    if empty:
        yield answered(asked, [], **{FINAL: True})
