"""The gateway conforms to the OpenAPI document: generated requests receive documented responses.

`ROSTER_EXAMPLES=100` tries more requests for each operation.
"""

import os
import re

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from deployments.dialects import DIALECTS
from deployments.gateway import http_app
from deployments.task import TASKS
from tests.fake_router import FakeRouter

EXAMPLES = int(os.environ.get("ROSTER_EXAMPLES", "6"))
MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
SEGMENT = re.compile(http_app.SegmentConvertor.regex)
SIMILARITY = TASKS["sentence-similarity"]

ROUTER = FakeRouter()
ROUTER.outputs[SIMILARITY.name] = lambda input: SIMILARITY.output(similarities=[0.5] * len(input.sentences))
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", http_app.build(ROUTER, DIALECTS))
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]
CASES = [
    (operation, mode)
    for operation in OPERATIONS
    for mode in MODES
    # Without a body and parameters nothing can be wrong.
    if mode is MODES[0] or any((operation.body, operation.path_parameters, operation.query))
]


def supporting_models(path: str) -> list[str]:
    """Return the models whose tasks support calls of the path, or every model if no task names the path."""
    models = [
        task.name
        for dialect in DIALECTS
        for task in TASKS.values()
        for call in dialect.supported_calls(task, "{model_id}")
        if path in (call.path, f"/models/{{model_id}}{call.path}")
    ]
    return models or [*TASKS]


def set_model(case: schemathesis.Case, model_id: str) -> None:
    """Set the model in the request's path or body, and replace path parameters that the gateway refuses."""
    for name, value in case.path_parameters.items():
        if name in ("model_id", "model") or not SEGMENT.fullmatch(value):
            case.path_parameters[name] = model_id
    field = "model_id" if case.path.startswith("/api/v1/") else "model"
    if isinstance(case.body, dict) and (
        field in case.body or case.path.startswith(("/api/v1/", "/v1/", "/v2/rerank"))
    ):
        case.body[field] = model_id


@pytest.mark.parametrize(
    ("operation", "mode"), CASES, ids=[f"{operation.label} {mode.value}" for operation, mode in CASES]
)
def test_generated_request_receives_documented_response(
    caplog: pytest.LogCaptureFixture,
    operation: schemathesis.APIOperation,
    mode: schemathesis.GenerationMode,
) -> None:
    @given(
        operation.as_strategy(generation_mode=mode),
        st.sampled_from(supporting_models(operation.path)),
    )
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[*HealthCheck],
        phases=[Phase.generate],
    )
    def check_response(case: schemathesis.Case, model_id: str) -> None:
        set_model(case, model_id)
        response = case.call()
        # The document types the data of an event; test_contract.py checks that.
        events = any("event-stream" in type_ for type_ in response.headers["content-type"])
        case.validate_response(response, checks=CHECKS if events else [*CHECKS, response_schema_conformance])
        assert not caplog.records, "an internal error, whatever its status"

    check_response()
