"""What Ray Serve has, asked for in full no more often than it may have changed: that is costly for Serve."""

import time
from typing import Any

from ray.serve.schema import ApplicationStatus, DeploymentStatus, ReplicaState

from deployments.catalog.serve_client import ServeClient

DETAILS_S = 10.0  # at least so often all is asked for, whatever the statuses say


class Observed:
    """Serve's applications. `expire` tells that something of them is being changed."""

    def __init__(self, serve: ServeClient) -> None:
        self._serve = serve
        self._applications: dict[str, Any] = {}
        self._statuses: list[bytes] | None = None  # read just before them; None: they are out of date
        self._asked_at = 0.0

    def expire(self) -> None:
        self._statuses = None

    async def applications(self) -> dict[str, Any]:
        """All that Serve has; where nothing can have changed since it was last asked, what it had then."""
        statuses = await self._serve.statuses()
        at_rest = statuses == self._statuses and all(map(is_at_rest, self._applications.values()))
        if not at_rest or time.monotonic() - self._asked_at > DETAILS_S:
            asked_at, applications = time.monotonic(), await self._serve.details()
            self._applications, self._statuses, self._asked_at = applications, statuses, asked_at
        return self._applications


def is_at_rest(app: dict[str, Any]) -> bool:
    """Whether an application stays as it is until the status of a deployment changes."""
    deployments = app["deployments"].values()
    states = {replica["state"] for deployment in deployments for replica in deployment["replicas"]}
    if app["status"] == ApplicationStatus.DEPLOY_FAILED:
        return not states  # one of an older version may still run, or another still start
    healthy = all(deployment["status"] == DeploymentStatus.HEALTHY for deployment in deployments)
    return bool(app["status"] == ApplicationStatus.RUNNING and healthy and states <= {ReplicaState.RUNNING})
