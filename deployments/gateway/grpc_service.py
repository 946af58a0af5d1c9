"""The gRPC service: every dialect's rpcs and the health check, in the form that Ray Serve expects.

Serve's own gRPC server receives a call and calls the ingress class's method of the rpc's name, whatever the
service. Requests stay raw bytes until a dialect parses them: a message class made at run time does not
survive the pickling on the way to the gateway.
"""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

import deployments.tasks  # noqa: F401 - registers the tasks whose rpcs the dialects list
from deployments.dialect import GRPC_STATUS, Rpc, StreamRpc
from deployments.dialects import DIALECTS
from deployments.errors import ModelNotFound, TooLarge
from deployments.telemetry.truncation import observe_truncation
from deployments.wire import protobuf
from deployments.wire.http import MAX_BODY, to_public_error

if TYPE_CHECKING:
    from deployments.routing.router import Router

MAX_DETAILS_BYTES = 2_000
"""gRPC clients refuse trailers over 8 KiB, and a byte of the details may take three bytes there."""

R = TypeVar("R", bound=type)


@dataclass(frozen=True)
class SerializedMessage:
    """A serialized message behind the one method that Serve calls."""

    raw: bytes

    def SerializeToString(self) -> bytes:
        return self.raw


async def check_health(router: "Router", raw: bytes, metadata: Mapping[str, str]) -> bytes:
    """Report the gateway's status (grpc.health.v1): SERVING once its models have loaded.

    Raises `ModelNotFound` for a named service: the status belongs to the whole gateway.
    """
    if protobuf.parse_fields(HealthCheckRequest, raw)["service"]:
        raise ModelNotFound("")
    status = HealthCheckResponse.SERVING if router.startup_complete else HealthCheckResponse.NOT_SERVING
    serialized: bytes = HealthCheckResponse(status=status).SerializeToString()
    return serialized


HEALTH = Rpc("grpc.health.v1.Health", "Check", check_health)
"""Without `Watch`: clients read UNIMPLEMENTED as healthy, and an open stream would hold a Router's slot."""


def all_rpcs() -> list[Rpc | StreamRpc]:
    """Return the health check and every dialect's rpcs."""
    return [HEALTH, *(rpc for dialect in DIALECTS for rpc in dialect.rpcs())]


def add_services_to_server(servicer: Any, server: grpc.Server) -> None:
    """Register every rpc with Serve's gRPC server. Serve's `grpc_servicer_functions` name this function.

    The handlers have no request deserializer, so that requests arrive as raw bytes.
    """
    for service, rpcs in groupby(sorted(all_rpcs(), key=lambda rpc: rpc.service), lambda rpc: rpc.service):
        handlers = {
            rpc.name: _handler_factory(rpc)(
                getattr(servicer, rpc.name), response_serializer=SerializedMessage.SerializeToString
            )
            for rpc in rpcs
        }
        # One call per service, because Serve looks at the first handler only.
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


def _handler_factory(rpc: Rpc | StreamRpc) -> Any:
    streams = isinstance(rpc, StreamRpc)
    return grpc.stream_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler


def with_rpc_methods(router: R) -> R:
    """Add one method per rpc to the Router's class. Raises `TypeError` if the class has such a method.

    Use it as a decorator, where the class is defined. Replicas import the class by its name: they would not
    see methods that only the process that builds the application had added.
    """
    for rpc in all_rpcs():
        if hasattr(router, rpc.name):
            raise TypeError(
                f"`{rpc.service}/{rpc.name}`: `{router.__name__}` already has a method `{rpc.name}`"
            )
        setattr(router, rpc.name, _stream_method(rpc) if isinstance(rpc, StreamRpc) else _unary_method(rpc))
    return router


def _unary_method(rpc: Rpc) -> Callable[..., Any]:
    async def method(self: "Router", raw: bytes, grpc_context: Any) -> SerializedMessage:
        try:
            metadata = dict(grpc_context.invocation_metadata())
            with observe_truncation() as truncation:
                response = await rpc.call(self, _check_size(raw), metadata)
            if trailers := [*truncation.header.items()]:
                grpc_context.set_trailing_metadata([*(grpc_context.trailing_metadata() or ()), *trailers])
            return SerializedMessage(response)
        except Exception as error:
            return _set_error(error, grpc_context)

    method.__name__ = rpc.name
    return method


def _stream_method(rpc: StreamRpc) -> Callable[..., Any]:
    async def method(
        self: "Router", requests: AsyncIterator[bytes], grpc_context: Any
    ) -> AsyncGenerator[SerializedMessage, None]:
        try:
            metadata = dict(grpc_context.invocation_metadata())
            checked = (_check_size(raw) async for raw in requests)
            async with aclosing(rpc.call(self, checked, metadata)) as responses:
                async for raw in responses:
                    yield SerializedMessage(raw)
        except Exception as error:
            _set_error(error, grpc_context)

    method.__name__ = rpc.name
    return method


def _check_size(raw: bytes) -> bytes:
    if len(raw) > MAX_BODY:
        raise TooLarge(f"Received message larger than max ({len(raw)} vs. {MAX_BODY})")
    return raw


def _set_error(error: Exception, grpc_context: Any) -> SerializedMessage:
    """Set the error's code and details, and return an empty message: Serve then sends exactly these.

    If the method raised the error, Serve would log a traceback for each client's mistake, and send the
    error's text if the details are empty.
    """
    trailers = dict(grpc_context.trailing_metadata() or ())
    public = to_public_error(error, trailers.get("request_id") or uuid.uuid4().hex)
    grpc_context.set_code(grpc.StatusCode[GRPC_STATUS[public.kind]])
    grpc_context.set_details(str(public).encode(errors="replace")[:MAX_DETAILS_BYTES].decode(errors="ignore"))
    return SerializedMessage(b"")
