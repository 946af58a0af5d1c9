"""What the nodes can give to a replica, with and without an autoscaler."""

from typing import Any

import pytest
import ray

from deployments.cluster.nodes import NODE_GROUP, node_resources


def test_node_resources_with_and_without_autoscaler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def node(alive: bool = True, labels: Any = (), **resources: float) -> dict[str, Any]:
        return {"Alive": alive, "Labels": dict(labels), "Resources": resources}

    nodes = [node(CPU=2.0), node(CPU=1.0, GPU=1.0), node(alive=False, GPU=8.0)]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert node_resources() == ({"CPU": 2.0, "GPU": 1.0}, False)
    nodes.append(node(labels={NODE_GROUP: "head"}, CPU=8.0))
    assert node_resources() == ({"CPU": 8.0, "GPU": 1.0}, True)


def test_ray_labels_nodes_of_an_autoscaler() -> None:
    from ray._private.resource_and_label_spec import ResourceAndLabelSpec
    from ray._raylet import NODE_TYPE_NAME_ENV

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NODE_TYPE_NAME_ENV, "head")
        assert ResourceAndLabelSpec._get_default_labels(None)[NODE_GROUP] == "head"
