"""Every module has an example, every example can be read, and is as short as it claims to be."""

from pathlib import Path

import pytest

from deployments.config.yaml_file import read
from deployments.task import MODULES

pytestmark = pytest.mark.model

EXAMPLES = sorted((Path(__file__).parents[2] / "example_models").iterdir())


@pytest.mark.parametrize("folder", EXAMPLES, ids=[folder.name for folder in EXAMPLES])
def test_example_model_config_is_valid(folder: Path) -> None:
    config = read(folder)
    assert config.checkpoint(folder).name
    assert len((folder / "config.yml").read_text().splitlines()) <= 8


def test_every_module_has_an_example_model() -> None:
    assert {read(folder).module_id for folder in EXAMPLES} == set(MODULES)
