"""`ModelStreamInfer`: many requests on one stream, each answered as soon as its response is ready.

The requests of a stream run concurrently and share batches with those of other clients. A request that fails
gets an error as its response; the stream continues. Generated text arrives in several responses.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from deployments.dialect import StreamRpc
from deployments.errors import InvalidInput
from deployments.wire.http import to_public_error
from deployments.wire.open_inference import service
from deployments.wire.open_inference.generate import can_stream
from deployments.wire.open_inference.messages import infer_response, parse_inference
from deployments.wire.open_inference.protos import SERVICE, STREAMING, message_classes
from deployments.wire.open_inference.tensors import Tensor
from deployments.wire.protobuf import parse_message

if TYPE_CHECKING:
    from deployments.routing.router import Router

MAX_CONCURRENT = 100  # requests of one stream
STREAM, EMPTY_FINAL = "stream", "triton_enable_empty_final_response"  # parameters of a request
FINAL = "triton_final_response"  # parameter of a response


def stream_rpc() -> StreamRpc:
    """Return `ModelStreamInfer`."""
    request_class, response_class = message_classes()[STREAMING]

    async def call(
        router: "Router", requests: AsyncIterator[bytes], metadata: Mapping[str, str]
    ) -> AsyncGenerator[bytes, None]:
        stream = RequestStream(router)
        handling = asyncio.get_running_loop().create_task(
            stream.handle_requests(parse_message(request_class, raw) async for raw in requests)
        )
        try:
            async for response in stream.responses():
                yield response_class(**response).SerializeToString()
        finally:
            handling.cancel()

    return StreamRpc(SERVICE, STREAMING, call)


class RequestStream:
    """One client's requests, and their responses in the order of completion."""

    def __init__(self, router: "Router") -> None:
        self._router = router
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._responses: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue(MAX_CONCURRENT)

    async def responses(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the fields of each response message. Raises if the stream of requests fails."""
        while (response := await self._responses.get()) is not None:
            if isinstance(response, Exception):
                raise response
            yield response

    async def handle_requests(self, requests: AsyncIterator[Any]) -> None:
        """Handle the requests until they end, or until this is cancelled."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            async for request in requests:
                await self._slots.acquire()
                task = asyncio.get_running_loop().create_task(self._handle(request))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)
            await self._responses.put(None)
        except Exception as error:
            await self._responses.put(error)
        finally:
            for task in tasks:
                task.cancel()

    async def _handle(self, request: Any) -> None:
        try:
            async with aclosing(_infer(self._router, request)) as responses:
                async for response in responses:
                    await self._responses.put({"infer_response": response})
        except Exception as error:
            message = str(to_public_error(error, uuid.uuid4().hex))
            response = {"model_name": request.model_name, "id": request.id}
            await self._responses.put({"error_message": message, "infer_response": response})
        finally:
            self._slots.release()


async def _infer(router: "Router", request: Any) -> AsyncGenerator[dict[str, Any], None]:
    """Yield a request's responses: one per part of a generated text, or one if `stream` is false."""
    task = service.find_task(router, request.model_name, request.model_version)
    inference = parse_inference(request)
    stream = _pop_flag(inference.parameters, STREAM, default=True)
    empty_final = _pop_flag(inference.parameters, EMPTY_FINAL, default=False)
    if stream and can_stream(task):
        parts = service.stream_infer(router, request.model_name, request.model_version, inference)
        async with aclosing(parts):
            async for text, last in parts:
                tensor = Tensor(service.GENERATED_TEXT, "BYTES", (1, 1), [text.encode()])
                yield infer_response(request, [tensor], **{FINAL: last and not empty_final})
    else:
        tensors = await service.infer(router, request.model_name, request.model_version, inference)
        yield infer_response(request, tensors, **{FINAL: not empty_final})
    if empty_final:
        yield infer_response(request, [], **{FINAL: True})


def _pop_flag(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.pop(name, default)
    if not isinstance(value, bool):
        raise InvalidInput(f"`{name}` must be true or false", field=name)
    return value
