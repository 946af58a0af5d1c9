import pytest

from deployments.dialect import Dialect
from deployments.dialects.roster import dialect


@pytest.fixture(scope="module")
def dialects() -> list[Dialect]:
    return [dialect]
