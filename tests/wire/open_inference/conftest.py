from collections.abc import AsyncIterator
from typing import Any

import pytest

from deployments.dialect import Dialect
from deployments.dialects.open_inference import dialect
from tests.wire.open_inference.triton_stubs import load_stubs


@pytest.fixture(scope="module")
def dialects() -> list[Dialect]:
    return [dialect]


@pytest.fixture
async def client(grpc_address: str) -> AsyncIterator[Any]:
    """Return Triton's own gRPC client."""
    stubs, _ = load_stubs()
    async with stubs.aio.InferenceServerClient(grpc_address) as client:
        yield client
