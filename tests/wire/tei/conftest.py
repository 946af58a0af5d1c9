import pytest

from deployments.dialect import Dialect
from deployments.dialects import huggingface, tei


@pytest.fixture(scope="module")
def dialects() -> list[Dialect]:
    """Both are asked about one model: each Hub client has routes of both."""
    return [tei.dialect, huggingface.dialect]
