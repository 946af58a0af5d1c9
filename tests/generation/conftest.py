"""Whatever these tests load is on this machine."""

from tests.loaded_models import offline as offline
