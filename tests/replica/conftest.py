"""Fixtures of the replica tests: no network access."""

from tests.loaded_models import offline as offline
