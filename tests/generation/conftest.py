"""Fixtures of the generation tests: no network access, and one module for each runner."""

from collections.abc import Iterator

import pytest

from deployments.tasks.text_generation import TextGeneration
from tests.generation_fixtures import RUNNERS, without_eos
from tests.loaded_models import offline as offline


@pytest.fixture(params=RUNNERS)
def module(request: pytest.FixtureRequest) -> Iterator[TextGeneration]:
    loaded_module = without_eos(request.param)
    yield loaded_module
    loaded_module.generator.close()
