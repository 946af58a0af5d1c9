"""Serve's own gRPC server on loopback, without a cluster; it pickles what Serve pickles before the router."""

import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any
from unittest.mock import Mock

import grpc
from ray.serve._private.common import gRPCRequest
from ray.serve._private.grpc_util import (
    enable_server_reflection,
    gRPCGenericServer,
    set_grpc_code_and_details,
)
from ray.serve._private.proxy_request_response import ResponseStatus, gRPCStreamingType
from ray.serve.grpc_util import RayServegRPCContext, gRPCInputStream

from deployments.gateway.grpc_service import add_services_to_server, with_rpc_methods

REQUEST_ID = "the-request-id"
Call = Callable[..., Awaitable[bytes]]


@asynccontextmanager
async def serve_grpc(router: Any) -> AsyncIterator[str]:
    """Yield the address of a server for `router`; until the exit, the router's class has the rpcs."""
    original_class = type(router)
    router.__class__ = with_rpc_methods(type("Gateway", (original_class,), {}))
    server = gRPCGenericServer(
        lambda service_method, streaming_type: (
            _stream_handler if streaming_type is gRPCStreamingType.STREAM_STREAM else _unary_handler
        )(router, service_method)
    )
    add_services_to_server(Mock(), server)
    enable_server_reflection(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
        router.__class__ = original_class


def _unary_handler(router: Any, service_method: str) -> Call:
    """Return a handler that pickles request, response and context, as Serve's proxy and replica do."""
    method = getattr(router, service_method.rpartition("/")[2], None)

    async def unary(raw: bytes, context: Any) -> bytes:
        serve_context = RayServegRPCContext(context)
        serve_context.set_trailing_metadata([("request_id", REQUEST_ID)])
        request, serve_context = pickle.loads(
            pickle.dumps((gRPCRequest(user_request_proto=raw), serve_context))
        )
        response = await method(request.user_request_proto, grpc_context=serve_context)
        serve_context, result = pickle.loads(pickle.dumps((serve_context, response.SerializeToString())))
        serve_context._set_on_grpc_context(context)
        set_grpc_code_and_details(context, ResponseStatus(code=grpc.StatusCode.OK))
        return result

    return unary


def _stream_handler(router: Any, service_method: str) -> Any:
    method = getattr(router, service_method.rpartition("/")[2])

    async def stream(requests: Any, context: Any) -> AsyncIterator[bytes]:
        serve_context = RayServegRPCContext(context)
        serve_context.set_trailing_metadata([("request_id", REQUEST_ID)])
        serve_context = pickle.loads(pickle.dumps(serve_context))
        async with aclosing(
            method(gRPCInputStream(aiter(requests)), grpc_context=serve_context)
        ) as responses:
            async for response in responses:
                yield response.SerializeToString()
        serve_context._set_on_grpc_context(context)
        set_grpc_code_and_details(context, ResponseStatus(code=grpc.StatusCode.OK))

    return stream


async def call(channel: grpc.aio.Channel, path: str, raw: bytes, *metadata: tuple[str, str]) -> bytes:
    """Call a unary rpc and return the raw response. Raises `AioRpcError`."""
    return await channel.unary_unary(path)(raw, metadata=metadata, timeout=10)
