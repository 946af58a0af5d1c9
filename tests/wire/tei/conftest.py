import pytest

from deployments.dialect import Dialect
from deployments.dialects import huggingface, tei


@pytest.fixture(scope="module")
def dialects() -> list[Dialect]:
    """Serve both dialects: the Hub's client uses routes of both for one model."""
    return [tei.dialect, huggingface.dialect]
