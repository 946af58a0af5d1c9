import pytest

from deployments.dialect import Dialect
from deployments.dialects.caikit import dialect
from tests.fake_router import FakeRouter
from tests.wire.caikit.expected_responses import set_outputs


@pytest.fixture(scope="module")
def dialects() -> list[Dialect]:
    return [dialect]


@pytest.fixture
def router(router: FakeRouter) -> FakeRouter:
    """Return a router whose models return the reference's outputs."""
    return set_outputs(router)
