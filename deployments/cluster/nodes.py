"""What the cluster's nodes can give to a replica."""

from typing import NamedTuple

import ray

NODE_GROUP = "ray.io/node-group"
"""The label with a node's type, on each node that `ray up` or KubeRay has started, the head included."""


class NodeResources(NamedTuple):
    """The most of each resource that one node has, and whether an autoscaler may add nodes.

    Ray does not say which types of nodes an autoscaler can add.
    """

    largest: dict[str, float]
    may_grow: bool = False


def node_resources() -> NodeResources:
    """Return the resources of the nodes that are alive."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    largest: dict[str, float] = {}
    for node in nodes:
        for name, amount in node["Resources"].items():
            largest[name] = max(largest.get(name, 0.0), amount)
    return NodeResources(largest, any(NODE_GROUP in node["Labels"] for node in nodes))
