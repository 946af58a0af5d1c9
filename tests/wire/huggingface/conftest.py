from typing import Any

import jsonschema
import pytest

from deployments.dialect import Dialect
from deployments.dialects.huggingface import dialect
from deployments.gateway.openapi import document


@pytest.fixture(scope="module")
def dialects() -> list[Dialect]:
    return [dialect]


@pytest.fixture(scope="module")
def assert_conforms() -> Any:
    """Return a function that validates a value against a schema of the OpenAPI document."""
    components = document([dialect])["components"]

    def assert_conforms(value: Any, name: str) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": components}
        jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)

    return assert_conforms
