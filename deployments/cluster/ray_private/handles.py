"""A deployment handle's view of its replicas, and its request counters."""

from collections.abc import Mapping
from math import inf
from typing import Any

from ray.serve.handle import DeploymentHandle


def running_replicas(handle: DeploymentHandle) -> Mapping[Any, Any]:
    """Return the replicas that a handle knows, by their ids, with their `replica_metadata`.

    Serve sends every change as a new mapping, as soon as a replica runs. The handle may remove a dead replica
    from the mapping, in another thread.
    """
    request_router = handle._router._asyncio_router._request_router
    return request_router.curr_replicas if request_router else {}


def count_running(handle: DeploymentHandle, replica: Any, by: int) -> None:
    """Count requests that are sent to a replica without the handle, or, below 0, that have ended.

    Serve autoscales by the counts of the handles.
    """
    counts = handle._router._asyncio_router._metrics_manager
    for _ in range(by):
        counts.inc_num_total_requests("")
        counts.inc_num_running_requests_for_replica(replica)
    for _ in range(-by):
        counts.dec_num_running_requests_for_replica(replica)


def count_queued(handle: DeploymentHandle, by: int) -> None:
    """Count requests that wait to be sent without the handle, or, below 0, that wait no longer."""
    handle._router._asyncio_router._metrics_manager.num_queued_requests += by


def most_queued(handle: DeploymentHandle) -> float:
    """Return the most queued requests to count: at `max_queued_requests` a handle refuses its next call.

    0 until the handle knows its deployment.
    """
    config = handle._router._asyncio_router._metrics_manager._deployment_config
    if config is None:
        return 0
    return inf if config.max_queued_requests < 0 else max(config.max_queued_requests - 1, 0)
