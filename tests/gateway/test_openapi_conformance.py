"""The OpenAPI document is what the door does: requests made from it get answers that it tells of."""

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
from deployments.gateway import http_app as web
from deployments.task import TASKS
from tests.fake_router import FakeRouter

EXAMPLES = 8
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
SEGMENT = re.compile(web.Segment.regex)
SIMILARITY = TASKS["sentence-similarity"]

ROUTER = FakeRouter()
ROUTER.outputs[SIMILARITY.name] = lambda asked: SIMILARITY.output(similarities=[0.5] * len(asked.sentences))
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", web.build(ROUTER, DIALECTS))
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]


def models(path: str) -> list[str]:
    """The models that can be asked there, or all where that goes for none in particular."""
    offered = [
        task.name
        for dialect in DIALECTS
        for task in TASKS.values()
        for offer in dialect.supported_calls(task, "{model_id}")
        if path in (offer.path, f"/models/{{model_id}}{offer.path}")
    ]
    return offered or [*TASKS]


def address(case: schemathesis.Case, model_id: str) -> None:
    """Let the request name this model, in its path or its body; and let its path be one of ours at all."""
    for name, value in case.path_parameters.items():
        if name in ("model_id", "model") or not SEGMENT.fullmatch(value):
            case.path_parameters[name] = model_id
    named = "model_id" if case.path.startswith("/api/v1/") else "model"
    if isinstance(case.body, dict) and (
        named in case.body or case.path.startswith(("/api/v1/", "/v1/", "/v2/rerank"))
    ):
        case.body[named] = model_id


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS, ids=[operation.label for operation in OPERATIONS])
def test_whatever_is_asked_is_answered_as_documented(
    caplog: pytest.LogCaptureFixture, operation: schemathesis.APIOperation
) -> None:
    @given(
        operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE),
        st.sampled_from(models(operation.path)),
    )
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[*HealthCheck],
        phases=[Phase.generate],
    )
    def ask(case: schemathesis.Case, model_id: str) -> None:
        address(case, model_id)
        answered = case.call()
        # Of an event the document types the data, which is tried in test_contract.py.
        events = any("event-stream" in type_ for type_ in answered.headers["content-type"])
        case.validate_response(answered, checks=CHECKS if events else [*CHECKS, response_schema_conformance])
        assert not caplog.records, "an internal error, whatever its status"

    ask()
