import pytest

from deployments.dialect import Dialect
from deployments.dialects.caikit import dialect
from tests.fake_router import FakeRouter
from tests.wire.caikit.expected_responses import can


@pytest.fixture(scope="module")
def dialects() -> list[Dialect]:
    return [dialect]


@pytest.fixture
def router(router: FakeRouter) -> FakeRouter:
    """Its models answer with what the reference's models would."""
    return can(router)
