"""docs/configuration.md is current and describes every key."""

from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from deployments.config.gateway_config import GatewayArgs
from deployments.config.model_config import Engine, ModelConfig
from deployments.config.serve_options import deployment_schema, nested_schemas
from deployments.limits import Batching
from deployments.reference import configuration

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_configuration_page_is_current() -> None:
    assert configuration.text() == PAGE.read_text(), "run `make docs`"


@pytest.mark.parametrize("schema", [ModelConfig, Engine, Batching, GatewayArgs])
def test_every_config_key_has_a_description(schema: type[BaseModel]) -> None:
    undescribed = [name for name, field in schema.model_fields.items() if not field.description]
    assert undescribed == []


def test_every_config_key_has_a_row() -> None:
    page = PAGE.read_text()
    schemas = [ModelConfig, Engine, Batching, GatewayArgs, *nested_schemas().values()]
    keys = {name for schema in schemas for name in schema.model_fields} | deployment_schema()[1]
    assert [key for key in sorted(keys) if f"| `{key}` | " not in page] == []


def test_config_row_has_type_bounds_and_default() -> None:
    class Some(BaseModel):
        wanted: int
        share: float | None = Field(None, ge=0, lt=1, description="See :ref:`shares <some_shares>` | ``a``.")

    assert configuration._row("share", Some.model_fields["share"], {}) == (
        "| `share` | number or null, ≥ 0, < 1 | `null` | See shares &#124; `a`. |\n"
    )
    assert configuration._row("share", Some.model_fields["share"], {"share": 0.5}).count("`0.5`") == 1
    with pytest.raises(KeyError):
        configuration._row("wanted", Some.model_fields["wanted"], {})
