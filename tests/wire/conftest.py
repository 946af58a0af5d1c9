"""A fake router behind the dialects under test: in this process, on a real port, and over gRPC.

The conftest.py of a protocol overrides `dialects`.
"""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from starlette.applications import Starlette

from deployments.dialect import Dialect
from deployments.dialects import DIALECTS
from deployments.gateway import http_app as web
from tests.fake_router import FakeRouter
from tests.grpc_server import serve_grpc
from tests.http_server import serve_http


@pytest.fixture(scope="module")
def dialects() -> list[Dialect]:
    """Return the dialects of the application."""
    return DIALECTS


@pytest.fixture(scope="module")
def served(dialects: list[Dialect]) -> tuple[FakeRouter, Starlette]:
    """Return a router and the application in front of it."""
    router = FakeRouter()
    return router, web.build(router, dialects)


@pytest.fixture
def router(served: tuple[FakeRouter, Starlette]) -> FakeRouter:
    """Return the router in its initial state."""
    served[0].reset()
    return served[0]


@pytest.fixture
def http(router: FakeRouter, served: tuple[FakeRouter, Starlette]) -> httpx.AsyncClient:
    """Return a client of the application that needs no port."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(served[1]), base_url="http://gateway", verify=False
    )


@pytest.fixture(scope="module")
def url(served: tuple[FakeRouter, Starlette]) -> Iterator[str]:
    """Return the URL of the application on a real port."""
    with serve_http(served[1]) as url:
        yield url


@pytest.fixture
async def grpc_address(router: FakeRouter) -> AsyncIterator[str]:
    """Return the address of a gRPC server for the router."""
    async with serve_grpc(router) as address:
        yield address
