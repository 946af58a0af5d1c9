"""The gRPC service: the health check, limits, and which errors a client may see."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from deployments.dialect import Rpc
from deployments.errors import InvalidInput
from deployments.gateway import grpc_service
from tests.fake_router import FakeRouter
from tests.grpc_server import REQUEST_ID, call, serve_grpc

SERVICE = "test.Echo"


async def echo(router: Any, raw: bytes, metadata: Mapping[str, str]) -> bytes:
    return raw + metadata.get("x", "").encode()


async def fail(router: Any, raw: bytes, metadata: Mapping[str, str]) -> bytes:
    if raw:
        raise InvalidInput(raw.decode())
    raise RuntimeError("the secret address is 10.0.0.1")


@pytest.fixture
async def channel(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[grpc.aio.Channel]:
    rpcs = [grpc_service.HEALTH, Rpc(SERVICE, "Echo", echo), Rpc(SERVICE, "Fail", fail)]
    monkeypatch.setattr(grpc_service, "all_rpcs", lambda: rpcs)
    async with serve_grpc(FakeRouter()) as address, grpc.aio.insecure_channel(address) as channel:
        yield channel


async def call_error(channel: grpc.aio.Channel, path: str, raw: bytes = b"") -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(channel, path, raw)
    return error.value.code().name, error.value.details()


async def test_bytes_are_unchanged_and_last_metadata_value_wins(channel: grpc.aio.Channel) -> None:
    assert await call(channel, f"/{SERVICE}/Echo", b"\xff\x00", ("x", "a"), ("x", "b")) == b"\xff\x00b"


async def test_error_kind_becomes_grpc_code(channel: grpc.aio.Channel) -> None:
    message = "日本 is 'not' a name\nat all"
    assert await call_error(channel, f"/{SERVICE}/Fail", message.encode()) == ("INVALID_ARGUMENT", message)


async def test_long_details_are_truncated_to_fit_into_trailer(channel: grpc.aio.Channel) -> None:
    code, details = await call_error(channel, f"/{SERVICE}/Fail", ("日" * 100_000).encode())
    assert code == "INVALID_ARGUMENT"
    assert details == "日" * (grpc_service.MAX_DETAILS_BYTES // 3)


async def test_unexpected_error_is_logged_and_hidden(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    error = await call_error(channel, f"/{SERVICE}/Fail")
    assert error == ("INTERNAL", f"internal error, request id {REQUEST_ID}")
    assert f"request {REQUEST_ID} failed" in caplog.text
    assert "10.0.0.1" in caplog.text


async def test_message_over_size_limit_is_resource_exhausted(
    channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_service, "MAX_BODY", 10)
    assert await call(channel, f"/{SERVICE}/Echo", b"x" * 10) == b"x" * 10
    error = await call_error(channel, f"/{SERVICE}/Echo", b"x" * 11)
    assert error == ("RESOURCE_EXHAUSTED", "Received message larger than max (11 vs. 10)")


@pytest.mark.parametrize("path", [f"/{SERVICE}/Other", "/test.Other/Echo", "/grpc.health.v1.Health/Watch"])
async def test_unknown_method_is_unimplemented(channel: grpc.aio.Channel, path: str) -> None:
    assert await call_error(channel, path) == ("UNIMPLEMENTED", "Method not found!")


CHECK = "/grpc.health.v1.Health/Check"


async def test_health_check_reports_serving(channel: grpc.aio.Channel) -> None:
    response = HealthCheckResponse.FromString(await call(channel, CHECK, b""))
    assert response.status == HealthCheckResponse.SERVING


@pytest.mark.parametrize("service", [SERVICE, "grpc.health.v1.Health", "nope"])
async def test_health_check_of_named_service_is_not_found(channel: grpc.aio.Channel, service: str) -> None:
    request = HealthCheckRequest(service=service).SerializeToString()
    assert await call_error(channel, CHECK, request) == ("NOT_FOUND", "")


async def test_health_check_of_malformed_message_is_internal(channel: grpc.aio.Channel) -> None:
    assert await call_error(channel, CHECK, b"\xff") == ("INTERNAL", "Exception deserializing request!")


async def test_services_work_on_plain_grpc_server() -> None:
    server = grpc.aio.server()
    router = grpc_service.with_rpc_methods(type("Gateway", (FakeRouter,), {}))()
    grpc_service.add_services_to_server(router, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await call(channel, CHECK, b"")
        assert (await call_error(channel, CHECK, b"\xff"))[0] == "INTERNAL"
    await server.stop(None)


def test_two_rpcs_with_same_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        grpc_service, "all_rpcs", lambda: [Rpc("a.A", "Echo", echo), Rpc("b.B", "Echo", echo)]
    )
    with pytest.raises(TypeError, match=r"`b\.B/Echo`: `Gateway` already has a method `Echo`"):
        grpc_service.with_rpc_methods(type("Gateway", (FakeRouter,), {}))


def test_rpc_with_name_of_router_method_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_service, "all_rpcs", lambda: [Rpc("a.A", "infer", echo)])
    with pytest.raises(TypeError, match="infer"):
        grpc_service.with_rpc_methods(type("Gateway", (FakeRouter,), {}))
