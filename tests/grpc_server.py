"""Serve's own gRPC server on loopback, and between it and the router what Serve puts there; no cluster."""

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
async def grpc_door(router: Any) -> AsyncIterator[str]:
    """The address of a server for `router`, whose class has the rpcs meanwhile."""
    plain = type(router)
    router.__class__ = with_rpc_methods(type("Door", (plain,), {}))
    server = gRPCGenericServer(
        lambda service_method, streaming_type: (
            _streaming if streaming_type is gRPCStreamingType.STREAM_STREAM else _unary
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
        router.__class__ = plain


def _unary(router: Any, service_method: str) -> Call:
    """As in Serve's proxy.py and replica.py: everything but our bytes and Serve's context is pickled away."""
    method = getattr(router, service_method.rpartition("/")[2], None)

    async def unary(raw: bytes, context: Any) -> bytes:
        seen = RayServegRPCContext(context)
        seen.set_trailing_metadata([("request_id", REQUEST_ID)])
        request, seen = pickle.loads(pickle.dumps((gRPCRequest(user_request_proto=raw), seen)))
        answer = await method(request.user_request_proto, grpc_context=seen)
        seen, result = pickle.loads(pickle.dumps((seen, answer.SerializeToString())))
        seen._set_on_grpc_context(context)
        set_grpc_code_and_details(context, ResponseStatus(code=grpc.StatusCode.OK))
        return result

    return unary


def _streaming(router: Any, service_method: str) -> Any:
    method = getattr(router, service_method.rpartition("/")[2])

    async def stream(requests: Any, context: Any) -> AsyncIterator[bytes]:
        seen = RayServegRPCContext(context)
        seen.set_trailing_metadata([("request_id", REQUEST_ID)])
        seen = pickle.loads(pickle.dumps(seen))
        async with aclosing(method(gRPCInputStream(aiter(requests)), grpc_context=seen)) as answers:
            async for answer in answers:
                yield answer.SerializeToString()
        seen._set_on_grpc_context(context)
        set_grpc_code_and_details(context, ResponseStatus(code=grpc.StatusCode.OK))

    return stream


async def call(channel: grpc.aio.Channel, path: str, raw: bytes, *metadata: tuple[str, str]) -> bytes:
    """The raw answer; raises `AioRpcError`."""
    return await channel.unary_unary(path)(raw, metadata=metadata, timeout=10)
