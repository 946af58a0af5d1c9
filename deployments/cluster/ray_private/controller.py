"""Serve's controller: deployment versions, deletion, cheap status, and what its loop copies."""

import copy
from typing import Any

from ray import serve


def pin_version(deployment: serve.Deployment, version: str) -> serve.Deployment:
    """The deployment with a code version of our own.

    Serve makes up a random version whenever an application is run from Python, so every edit of
    `num_replicas` would reload the weights. With the same version it leaves the processes alone.
    """
    return deployment.options(version=version, _internal=True)


def delete(applications: list[str]) -> None:
    """Delete applications without waiting until they are gone.

    In one call: for each, the controller writes down all that it knows of all others.
    """
    from ray.serve.context import _get_global_client

    _get_global_client().delete_apps(applications, blocking=False)


async def serve_ports() -> tuple[int, int]:
    """Where Serve listens: the ports of HTTP and of gRPC."""
    details = await _details()
    return details["http_options"]["port"], details["grpc_options"]["port"]


async def serve_details() -> dict[str, Any]:
    """Applications, deployments and replicas as the controller sees them, as plain values.

    `serve.status()` gives the same, but validates it again in the caller: 0.3 s for fifty applications.
    """
    applications: dict[str, Any] = (await _details())["applications"]
    return applications


async def serve_statuses() -> list[bytes]:
    """Each deployment's status, reason and message, oldest first, to compare with what they were.

    They do not tell of which application. With five hundred of these `serve_details` takes the controller
    0.3 s, and this next to nothing.
    """
    statuses: list[bytes] = await _controller().get_all_deployment_statuses.remote()
    return statuses


async def _details() -> dict[str, Any]:
    details: dict[str, Any] = await _controller().get_serve_instance_details.remote()
    return details


def _controller() -> Any:
    from ray.serve.context import _get_global_client

    return _get_global_client()._controller


def copy_less() -> None:
    """In the process of Serve's controller, which calls this as it starts: copy what has not changed no more.

    Each turn of its loop copies all that each deployment should be, to set a field or two of the copy and to
    find that nothing is new. With five hundred models that takes more than half of the turn.
    """
    from ray.serve._private import application_state

    application_state.deepcopy = _copy


def _copy(value: Any) -> Any:
    """As deep as Serve changes a deployment's info in place; of what else it copies, all."""
    from ray.serve._private.deployment_info import DeploymentInfo

    if not isinstance(value, DeploymentInfo):
        return copy.deepcopy(value)
    info = copy.copy(value)
    info.deployment_config = copy.copy(value.deployment_config)
    return info
