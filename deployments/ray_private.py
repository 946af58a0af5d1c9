"""What Ray keeps private and Roster needs; tests/test_ray_private.py fails when Ray changes it."""

from typing import Any

import ray
from ray import serve


def pin_version(deployment: serve.Deployment, version: str) -> serve.Deployment:
    """The deployment with a code version of our own.

    Serve makes up a random version whenever an application is run from Python, so every edit of
    `num_replicas` would reload the weights. With the same version it leaves the processes alone.
    """
    return deployment.options(version=version, _internal=True)


async def serve_details() -> dict[str, Any]:
    """Applications, deployments and replicas as the controller sees them, as plain values.

    `serve.status()` gives the same, but validates it again in the caller: 0.3 s for fifty applications.
    """
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    details = await client._controller.get_serve_instance_details.remote()
    applications: dict[str, Any] = details["applications"]
    return applications


def largest_share(resource: str) -> float:
    """The most of a resource that one node has, or that one the autoscaler could add would have."""
    nodes = [node["Resources"].get(resource, 0.0) for node in ray.nodes() if node["Alive"]]
    config = ray._private.state.state.get_cluster_config()
    groups = config.node_group_configs if config else ()
    return max([*nodes, *(group.resources.get(resource, 0) for group in groups)], default=0.0)
