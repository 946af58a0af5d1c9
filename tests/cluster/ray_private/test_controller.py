"""What `ray_private/controller.py` relies on; tests/end_to_end/ proves the rest on a running cluster."""

import copy

import pytest
from ray import serve
from ray.serve._private import application_state
from ray.serve._private.deployment_info import DeploymentInfo

from deployments.cluster.ray_private.controller import pin_version, reduce_copies


@serve.deployment
class Some:
    pass


def test_pin_version_keeps_the_options() -> None:
    pinned = pin_version(Some.options(num_replicas=2, user_config={"a": 1}), "of-ours")
    assert pinned.version == "of-ours"
    assert pinned.num_replicas == 2
    assert "num_replicas" in pinned._deployment_config.user_configured_option_names


def test_reduce_copies_copies_what_serve_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "deepcopy" in application_state.ApplicationState._reconcile_target_deployments.__code__.co_names
    monkeypatch.setattr(application_state, "deepcopy", copy.deepcopy)
    reduce_copies()
    options = Some._deployment_config, Some._replica_config
    info = DeploymentInfo(*options, start_time_ms=0, deployer_job_id="")
    changed = application_state.deepcopy(info)
    changed.set_target_capacity(50.0, None)
    changed.start_time_ms, changed.deployment_config.logging_config = 1, {"log_level": "DEBUG"}
    assert (info.target_capacity, info.start_time_ms, info.deployment_config.logging_config) == (
        None,
        0,
        None,
    )
    assert changed.replica_config is info.replica_config
    overridden = application_state.deepcopy({"model": info})["model"]
    assert overridden.replica_config is not info.replica_config, "which Serve does change in place"
