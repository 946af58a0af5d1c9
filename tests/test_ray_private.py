"""What `ray_private.py` relies on; tests/cluster/ proves the rest of it on a running cluster."""

from typing import Any

import pytest
import ray
from ray import serve

from deployments.ray_private import NODE_GROUP, largest_shares, pin_version


@serve.deployment
class Some:
    pass


def test_a_version_can_be_pinned_and_the_options_survive() -> None:
    pinned = pin_version(Some.options(num_replicas=2, user_config={"a": 1}), "of-ours")
    assert pinned.version == "of-ours"
    assert pinned.num_replicas == 2
    assert "num_replicas" in pinned._deployment_config.user_configured_option_names


def test_what_a_node_can_give_is_bounded_only_where_no_autoscaler_adds_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def node(alive: bool = True, labels: Any = (), **resources: float) -> dict[str, Any]:
        return {"Alive": alive, "Labels": dict(labels), "Resources": resources}

    nodes = [node(CPU=2.0), node(CPU=1.0, GPU=1.0), node(alive=False, GPU=8.0)]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert largest_shares() == {"CPU": 2.0, "GPU": 1.0}
    nodes.append(node(labels={NODE_GROUP: "head"}, CPU=8.0))
    assert largest_shares() is None


def test_ray_labels_the_nodes_that_an_autoscaler_starts() -> None:
    from ray._private.resource_and_label_spec import ResourceAndLabelSpec
    from ray._raylet import NODE_TYPE_NAME_ENV

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NODE_TYPE_NAME_ENV, "head")
        assert ResourceAndLabelSpec._get_default_labels(None)[NODE_GROUP] == "head"
