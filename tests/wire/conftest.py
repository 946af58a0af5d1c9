"""A fake router behind the dialects under test: in this process, on a real port, and over gRPC.

A protocol's own conftest.py overrides `dialects`.
"""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from starlette.applications import Starlette

from deployments.dialect import Dialect
from deployments.dialects import DIALECTS
from deployments.gateway import http_app as web
from tests.fake_router import FakeRouter
from tests.grpc_server import grpc_door
from tests.http_server import listening


@pytest.fixture(scope="module")
def dialects() -> list[Dialect]:
    """The dialects that the application speaks."""
    return DIALECTS


@pytest.fixture(scope="module")
def served(dialects: list[Dialect]) -> tuple[FakeRouter, Starlette]:
    """A router, and the application in front of it."""
    router = FakeRouter()
    return router, web.build(router, dialects)


@pytest.fixture
def router(served: tuple[FakeRouter, Starlette]) -> FakeRouter:
    """The router, as new."""
    served[0].forget()
    return served[0]


@pytest.fixture
def http(router: FakeRouter, served: tuple[FakeRouter, Starlette]) -> httpx.AsyncClient:
    """A client of the application, without a port."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(served[1]), base_url="http://door", verify=False)


@pytest.fixture(scope="module")
def url(served: tuple[FakeRouter, Starlette]) -> Iterator[str]:
    """Where the application listens on a real port."""
    with listening(served[1]) as url:
        yield url


@pytest.fixture
async def grpc_address(router: FakeRouter) -> AsyncIterator[str]:
    """Where the router's rpcs are served."""
    async with grpc_door(router) as address:
        yield address
