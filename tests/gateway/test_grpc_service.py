"""The gRPC door itself: health, limits, and what callers may hear of an error."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from deployments.dialect import Rpc
from deployments.errors import InvalidInput
from deployments.gateway import grpc_service as rpc
from tests.fake_router import FakeRouter
from tests.grpc_server import REQUEST_ID, call, grpc_door

SERVICE = "test.Echo"


async def echo(router: Any, raw: bytes, metadata: Mapping[str, str]) -> bytes:
    return raw + metadata.get("x", "").encode()


async def fail(router: Any, raw: bytes, metadata: Mapping[str, str]) -> bytes:
    if raw:
        raise InvalidInput(raw.decode())
    raise RuntimeError("the secret address is 10.0.0.1")


@pytest.fixture
async def channel(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[grpc.aio.Channel]:
    rpcs = [rpc.HEALTH, Rpc(SERVICE, "Echo", echo), Rpc(SERVICE, "Fail", fail)]
    monkeypatch.setattr(rpc, "rpcs", lambda: rpcs)
    async with grpc_door(FakeRouter()) as address, grpc.aio.insecure_channel(address) as channel:
        yield channel


async def refusal(channel: grpc.aio.Channel, path: str, raw: bytes = b"") -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(channel, path, raw)
    return error.value.code().name, error.value.details()


async def test_bytes_pass_and_the_last_metadata_value_wins(channel: grpc.aio.Channel) -> None:
    assert await call(channel, f"/{SERVICE}/Echo", b"\xff\x00", ("x", "a"), ("x", "b")) == b"\xff\x00b"


async def test_a_kind_becomes_its_code(channel: grpc.aio.Channel) -> None:
    said = "日本 is 'not' a name\nat all"
    assert await refusal(channel, f"/{SERVICE}/Fail", said.encode()) == ("INVALID_ARGUMENT", said)


async def test_long_details_fit_into_a_trailer(channel: grpc.aio.Channel) -> None:
    code, details = await refusal(channel, f"/{SERVICE}/Fail", ("日" * 100_000).encode())
    assert code == "INVALID_ARGUMENT"
    assert details == "日" * (rpc.MAX_DETAILS // 3)


async def test_an_unknown_error_is_logged_and_not_told(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    told = await refusal(channel, f"/{SERVICE}/Fail")
    assert told == ("INTERNAL", f"internal error, request id {REQUEST_ID}")
    assert f"request {REQUEST_ID} failed" in caplog.text
    assert "10.0.0.1" in caplog.text


async def test_size_is_limited(channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "MAX_BODY", 10)
    assert await call(channel, f"/{SERVICE}/Echo", b"x" * 10) == b"x" * 10
    told = await refusal(channel, f"/{SERVICE}/Echo", b"x" * 11)
    assert told == ("RESOURCE_EXHAUSTED", "Received message larger than max (11 vs. 10)")


@pytest.mark.parametrize("path", [f"/{SERVICE}/Other", "/test.Other/Echo", "/grpc.health.v1.Health/Watch"])
async def test_what_is_not_there_is_unimplemented(channel: grpc.aio.Channel, path: str) -> None:
    assert await refusal(channel, path) == ("UNIMPLEMENTED", "Method not found!")


CHECK = "/grpc.health.v1.Health/Check"


async def test_the_gateway_serves(channel: grpc.aio.Channel) -> None:
    told = HealthCheckResponse.FromString(await call(channel, CHECK, b""))
    assert told.status == HealthCheckResponse.SERVING


@pytest.mark.parametrize("service", [SERVICE, "grpc.health.v1.Health", "nope"])
async def test_health_tells_no_services_apart(channel: grpc.aio.Channel, service: str) -> None:
    asked = HealthCheckRequest(service=service).SerializeToString()
    assert await refusal(channel, CHECK, asked) == ("NOT_FOUND", "")


async def test_health_of_no_message(channel: grpc.aio.Channel) -> None:
    assert await refusal(channel, CHECK, b"\xff") == ("INTERNAL", "Exception deserializing request!")


async def test_a_plain_server_serves_too() -> None:
    server = grpc.aio.server()
    rpc.add_services_to_server(rpc.with_rpc_methods(type("Door", (FakeRouter,), {}))(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await call(channel, CHECK, b"")
        assert (await refusal(channel, CHECK, b"\xff"))[0] == "INTERNAL"
    await server.stop(None)


def test_one_name_is_one_rpc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "rpcs", lambda: [Rpc("a.A", "Echo", echo), Rpc("b.B", "Echo", echo)])
    with pytest.raises(TypeError, match=r"`b\.B/Echo`: `Door` has a `Echo` already"):
        rpc.with_rpc_methods(type("Door", (FakeRouter,), {}))


def test_an_rpc_hides_no_method_of_the_router(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "rpcs", lambda: [Rpc("a.A", "infer", echo)])
    with pytest.raises(TypeError, match="infer"):
        rpc.with_rpc_methods(type("Door", (FakeRouter,), {}))
