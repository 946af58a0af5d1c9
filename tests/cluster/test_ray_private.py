"""What `ray_private.py` relies on; tests/end_to_end/ proves the rest of it on a running cluster."""

import copy
from typing import Any

import pytest
import ray
from ray import serve
from ray.serve._private import application_state
from ray.serve._private.deployment_info import DeploymentInfo

from deployments.cluster.ray_private import NODE_GROUP, copy_less, pin_version, shares


@serve.deployment
class Some:
    pass


def test_a_version_can_be_pinned_and_the_options_survive() -> None:
    pinned = pin_version(Some.options(num_replicas=2, user_config={"a": 1}), "of-ours")
    assert pinned.version == "of-ours"
    assert pinned.num_replicas == 2
    assert "num_replicas" in pinned._deployment_config.user_configured_option_names


def test_what_a_deployment_should_be_is_copied_as_deep_as_serve_changes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "deepcopy" in application_state.ApplicationState._reconcile_target_deployments.__code__.co_names
    monkeypatch.setattr(application_state, "deepcopy", copy.deepcopy)
    copy_less()
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


def test_what_a_node_can_give_is_bounded_only_where_no_autoscaler_adds_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def node(alive: bool = True, labels: Any = (), **resources: float) -> dict[str, Any]:
        return {"Alive": alive, "Labels": dict(labels), "Resources": resources}

    nodes = [node(CPU=2.0), node(CPU=1.0, GPU=1.0), node(alive=False, GPU=8.0)]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert shares() == ({"CPU": 2.0, "GPU": 1.0}, False)
    nodes.append(node(labels={NODE_GROUP: "head"}, CPU=8.0))
    assert shares() == ({"CPU": 8.0, "GPU": 1.0}, True)


def test_ray_labels_the_nodes_that_an_autoscaler_starts() -> None:
    from ray._private.resource_and_label_spec import ResourceAndLabelSpec
    from ray._raylet import NODE_TYPE_NAME_ENV

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NODE_TYPE_NAME_ENV, "head")
        assert ResourceAndLabelSpec._get_default_labels(None)[NODE_GROUP] == "head"
