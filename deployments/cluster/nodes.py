"""What the cluster's nodes can give to a replica."""

from typing import NamedTuple

import ray

NODE_GROUP = "ray.io/node-group"
"""A label of each node that `ray up` or KubeRay has started, the head included: which of its types it is."""


class NodeResources(NamedTuple):
    """The most of each resource that one node has, and whether an autoscaler may add others.

    Which those could be, the autoscaler keeps to itself.
    """

    largest: dict[str, float]
    may_grow: bool = False


def shares() -> NodeResources:
    """What the nodes that are there can give to a replica."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    largest: dict[str, float] = {}
    for node in nodes:
        for name, amount in node["Resources"].items():
            largest[name] = max(largest.get(name, 0.0), amount)
    return NodeResources(largest, any(NODE_GROUP in node["Labels"] for node in nodes))
