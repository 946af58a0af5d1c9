"""When Serve's applications are read in full again."""

import pytest

from deployments.catalog.serve_state import is_steady
from tests.catalog.test_catalog import app


@pytest.mark.parametrize(
    ("status", "deployment", "states", "rests"),
    [
        ("RUNNING", "HEALTHY", ["RUNNING"], True),
        ("RUNNING", "HEALTHY", [], True),
        ("RUNNING", "HEALTHY", ["PENDING_MIGRATION"], False),
        ("RUNNING", "UPSCALING", ["RUNNING"], False),
        ("DEPLOYING", "HEALTHY", ["RUNNING"], False),
        ("UNHEALTHY", "UNHEALTHY", [], False),
        ("DEPLOY_FAILED", "DEPLOY_FAILED", [], True),
        ("DEPLOY_FAILED", "DEPLOY_FAILED", ["STARTING"], False),
        ("DELETING", "HEALTHY", [], False),
    ],
)
def test_application_is_steady(status: str, deployment: str, states: list[str], rests: bool) -> None:
    one = app(None, status=deployment, replicas=[{"state": state} for state in states])
    assert is_steady({**one, "status": status}) is rests
