"""gRPC at the door: every dialect's rpcs, and the health check, as Ray Serve wants them.

Serve's own gRPC server takes a call and calls the ingress class's method of the rpc's name, whatever the
service. Requests stay raw bytes until a dialect reads them: a message made at run time does not survive the
pickling on the way to the Router.
"""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

import deployments.tasks  # noqa: F401  (registers what the dialects speak of)
from deployments.dialect import GRPC_STATUS, Rpc, StreamRpc
from deployments.dialects import DIALECTS
from deployments.errors import ModelNotFound, TooLarge
from deployments.wire import protobuf
from deployments.wire.http import MAX_BODY, to_public_error

if TYPE_CHECKING:
    from deployments.routing.router import Router

MAX_DETAILS = 2_000  # bytes; gRPC's clients refuse trailers of more than 8 KiB, and each may take three there

R = TypeVar("R", bound=type)


@dataclass(frozen=True)
class Answer:
    """A serialized message, in the form in which Serve takes it."""

    raw: bytes

    def SerializeToString(self) -> bytes:
        return self.raw


async def check(router: "Router", raw: bytes, metadata: Mapping[str, str]) -> bytes:
    """grpc.health.v1: whether the gateway serves, its models loaded; services are not told apart."""
    if protobuf.parse_fields(HealthCheckRequest, raw)["service"]:
        raise ModelNotFound("")
    status = HealthCheckResponse.SERVING if router.startup_complete else HealthCheckResponse.NOT_SERVING
    serialized: bytes = HealthCheckResponse(status=status).SerializeToString()
    return serialized


HEALTH = Rpc("grpc.health.v1.Health", "Check", check)
"""Without `Watch`: clients read UNIMPLEMENTED as healthy, and an open stream would hold a Router's slot."""


def rpcs() -> list[Rpc | StreamRpc]:
    """Every rpc at this door."""
    return [HEALTH, *(rpc for dialect in DIALECTS for rpc in dialect.rpcs())]


def add_services_to_server(servicer: Any, server: grpc.Server) -> None:
    """Serve's `grpc_servicer_functions` name this. Without deserializers: requests pass as raw bytes."""
    for service, group in groupby(sorted(rpcs(), key=lambda rpc: rpc.service), lambda rpc: rpc.service):
        handlers = {
            rpc.name: _handler(rpc)(getattr(servicer, rpc.name), response_serializer=Answer.SerializeToString)
            for rpc in group
        }
        # One service at a time: Serve looks at the first handler only.
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


def _handler(rpc: Rpc | StreamRpc) -> Any:
    streams = isinstance(rpc, StreamRpc)
    return grpc.stream_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler


def with_rpc_methods(router: R) -> R:
    """Give the Router's class one method per rpc. Raises `TypeError` where a name is taken already.

    A decorator, for the place where the class is defined: replicas import the class by its name, and would
    find it without these methods if only the process that builds the application had added them.
    """
    for rpc in rpcs():
        if hasattr(router, rpc.name):
            raise TypeError(f"`{rpc.service}/{rpc.name}`: `{router.__name__}` has a `{rpc.name}` already")
        setattr(router, rpc.name, _streaming(rpc) if isinstance(rpc, StreamRpc) else _method(rpc))
    return router


def _method(rpc: Rpc) -> Callable[..., Any]:
    async def method(self: "Router", raw: bytes, grpc_context: Any) -> Answer:
        try:
            metadata = dict(grpc_context.invocation_metadata())
            return Answer(await rpc.call(self, _within_limit(raw), metadata))
        except Exception as error:
            return _refuse(error, grpc_context)

    method.__name__ = rpc.name
    return method


def _streaming(rpc: StreamRpc) -> Callable[..., Any]:
    async def method(
        self: "Router", requests: AsyncIterator[bytes], grpc_context: Any
    ) -> AsyncGenerator[Answer, None]:
        try:
            metadata = dict(grpc_context.invocation_metadata())
            limited = (_within_limit(raw) async for raw in requests)
            async with aclosing(rpc.call(self, limited, metadata)) as answers:
                async for raw in answers:
                    yield Answer(raw)
        except Exception as error:
            _refuse(error, grpc_context)

    method.__name__ = rpc.name
    return method


def _within_limit(raw: bytes) -> bytes:
    if len(raw) > MAX_BODY:
        raise TooLarge(f"Received message larger than max ({len(raw)} vs. {MAX_BODY})")
    return raw


def _refuse(error: Exception, grpc_context: Any) -> Answer:
    """Set the code and details, and return: Serve then sends exactly these.

    Were the error raised, Serve would log a traceback for each caller's mistake, and send the error's text
    where there are no details.
    """
    trailers = dict(grpc_context.trailing_metadata() or ())
    told = to_public_error(error, trailers.get("request_id") or uuid.uuid4().hex)
    grpc_context.set_code(grpc.StatusCode[GRPC_STATUS[told.kind]])
    grpc_context.set_details(str(told).encode(errors="replace")[:MAX_DETAILS].decode(errors="ignore"))
    return Answer(b"")
