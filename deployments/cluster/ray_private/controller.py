"""Serve's controller: deployment versions, deletion, cheap status, and what its loop copies."""

import copy
from typing import Any

from ray import serve


def pin_version(deployment: serve.Deployment, version: str) -> serve.Deployment:
    """Return the deployment with the given code version.

    Serve gives a deployment that is run from Python a random version, so every edit of `num_replicas` would
    reload the weights. With the same version it keeps the processes.
    """
    return deployment.options(version=version, _internal=True)


def delete(applications: list[str]) -> None:
    """Delete applications without waiting until they are gone.

    One call for all: the controller saves its whole state for each call.
    """
    from ray.serve.context import _get_global_client

    _get_global_client().delete_apps(applications, blocking=False)


async def serve_ports() -> tuple[int, int]:
    """Return the ports on which Serve listens: HTTP and gRPC."""
    details = await _details()
    return details["http_options"]["port"], details["grpc_options"]["port"]


async def serve_details() -> dict[str, Any]:
    """Return applications, deployments and replicas as the controller sees them, as plain values.

    `serve.status()` gives the same, but validates it again in the caller: 0.3 s for fifty applications.
    """
    applications: dict[str, Any] = (await _details())["applications"]
    return applications


async def serve_statuses() -> list[bytes]:
    """Return each deployment's status, reason and message, oldest first, to compare with an earlier call.

    They do not name the application. With five hundred applications `serve_details` takes the controller
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


def reduce_copies() -> None:
    """Make the copies in Serve's control loop cheap. The controller calls this when it starts.

    Each iteration copies the target state of each deployment deeply, sets a field or two of the copy and
    finds that nothing has changed. With five hundred models the copies take more than half of the iteration.
    """
    from ray.serve._private import application_state

    application_state.deepcopy = _copy


def _copy(value: Any) -> Any:
    """Copy a deployment's info as deep as Serve changes it in place, and any other value completely."""
    from ray.serve._private.deployment_info import DeploymentInfo

    if not isinstance(value, DeploymentInfo):
        return copy.deepcopy(value)
    info = copy.copy(value)
    info.deployment_config = copy.copy(value.deployment_config)
    return info
