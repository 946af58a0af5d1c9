from collections.abc import Iterator

import httpx
import pytest
from openai import OpenAI

from deployments.dialect import Dialect
from deployments.dialects.openai import dialect
from tests.fake_router import FakeRouter


@pytest.fixture(scope="module")
def dialects() -> list[Dialect]:
    return [dialect]


@pytest.fixture
def http(url: str, router: FakeRouter) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=10) as client:
        yield client


@pytest.fixture
def strict_validation() -> bool:
    """Return whether the client raises an error for a response without exactly OpenAI's types."""
    return False


@pytest.fixture
def client(url: str, router: FakeRouter, strict_validation: bool) -> Iterator[OpenAI]:
    """Yield the openai client."""
    with OpenAI(
        base_url=f"{url}/v1", api_key="any", max_retries=0, _strict_response_validation=strict_validation
    ) as client:
        yield client
