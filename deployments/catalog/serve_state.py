"""A cache of Serve's applications: reading them in full is costly for Serve's controller."""

import time
from typing import Any

from ray.serve.schema import ApplicationStatus, DeploymentStatus, ReplicaState

from deployments.catalog.serve_client import ServeClient

DETAILS_S = 10.0  # the longest time between two full readings, whatever the statuses are


class ServeStateCache:
    """Reads Serve's applications in full only when something may have changed."""

    def __init__(self, serve: ServeClient) -> None:
        self._serve = serve
        self._applications: dict[str, Any] = {}
        self._statuses: list[bytes] | None = None  # of just before the last full reading
        self._read_at = 0.0

    def expire(self) -> None:
        """Read in full next time: the caller is changing something."""
        self._statuses = None

    async def applications(self) -> dict[str, Any]:
        """Return all applications by name; the last reading if nothing can have changed since."""
        statuses = await self._serve.statuses()
        steady = statuses == self._statuses and all(map(is_steady, self._applications.values()))
        if not steady or time.monotonic() - self._read_at > DETAILS_S:
            read_at, applications = time.monotonic(), await self._serve.details()
            self._applications, self._statuses, self._read_at = applications, statuses, read_at
        return self._applications


def is_steady(app: dict[str, Any]) -> bool:
    """Return whether nothing of an application changes before the status of a deployment does."""
    deployments = app["deployments"].values()
    states = {replica["state"] for deployment in deployments for replica in deployment["replicas"]}
    if app["status"] == ApplicationStatus.DEPLOY_FAILED:
        return not states  # a replica of an older version may still run, or another still start
    healthy = all(deployment["status"] == DeploymentStatus.HEALTHY for deployment in deployments)
    return bool(app["status"] == ApplicationStatus.RUNNING and healthy and states <= {ReplicaState.RUNNING})
