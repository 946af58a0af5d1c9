"""What Ray keeps private and Roster needs; its tests fail when Ray changes it."""

import copy
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from math import inf
from typing import Any, NamedTuple

import ray

from deployments.errors import InferenceError


@contextmanager
def _absent(module: str) -> Iterator[None]:
    """For whoever asks meanwhile, a module is not installed: None in its place stops an import."""
    absent = sys.modules.setdefault(module, None) is None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if absent:
            del sys.modules[module]


# Serve imports pandas where gradio has brought it, for answers that no model of ours gives: 29 MiB in every
# replica, and a third of a second of its start.
with _absent("pandas"):
    from ray import serve
    from ray.serve.handle import DeploymentHandle


def pin_version(deployment: serve.Deployment, version: str) -> serve.Deployment:
    """The deployment with a code version of our own.

    Serve makes up a random version whenever an application is run from Python, so every edit of
    `num_replicas` would reload the weights. With the same version it leaves the processes alone.
    """
    return deployment.options(version=version, _internal=True)


HOOK = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"
"""In a runtime_env's variables: the function that a worker calls when it has started."""


def prestart_workers(count: int, runtime_env: dict[str, Any], keep_s: int, only: str | None = None) -> None:
    """Ask every node, or `only` that of an id, for idle workers with this runtime_env, for actors to come.

    Ray itself keeps idle workers for tasks alone.
    """
    from ray._private.grpc_utils import init_grpc_channel
    from ray._private.utils import get_runtime_env_info
    from ray.core.generated.node_manager_pb2 import PrestartWorkersRequest
    from ray.core.generated.node_manager_pb2_grpc import NodeManagerServiceStub
    from ray.runtime_env import RuntimeEnv

    request = PrestartWorkersRequest(num_workers=count, keep_alive_duration_secs=keep_s)
    request.job_id = bytes.fromhex(ray.get_runtime_context().get_job_id())
    info = get_runtime_env_info(RuntimeEnv(**runtime_env))
    request.runtime_env_info.ParseFromString(info.SerializeToString())
    for node in ray.nodes():
        if node["Alive"] and only in (None, node["NodeID"]):
            channel = init_grpc_channel(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}")
            try:
                NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=10)
            finally:
                channel.close()


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


NODE_GROUP = "ray.io/node-group"
"""A label of each node that `ray up` or KubeRay has started, the head included: which of its types it is."""


class Shares(NamedTuple):
    """The most of each resource that one node has, and whether an autoscaler may add others.

    Which those could be, the autoscaler keeps to itself.
    """

    largest: dict[str, float]
    may_grow: bool = False


def shares() -> Shares:
    """What the nodes that are there can give to a replica."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    largest: dict[str, float] = {}
    for node in nodes:
        for name, amount in node["Resources"].items():
            largest[name] = max(largest.get(name, 0.0), amount)
    return Shares(largest, any(NODE_GROUP in node["Labels"] for node in nodes))


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


def running_replicas(handle: DeploymentHandle) -> Mapping[Any, Any]:
    """The replicas that a handle knows, by their ids, with their `replica_metadata`.

    Another object whenever Serve has told of others, which it does as soon as they run. The handle itself may
    take one out that has died, in a thread of its own.
    """
    request_router = handle._router._asyncio_router._request_router
    return request_router.curr_replicas if request_router else {}


def count_running(handle: DeploymentHandle, replica: Any, by: int) -> None:
    """Count requests that are sent to a replica past the handle, or, below 0, that have ended: autoscaling
    goes by what handles count."""
    counts = handle._router._asyncio_router._metrics_manager
    for _ in range(by):
        counts.inc_num_total_requests("")
        counts.inc_num_running_requests_for_replica(replica)
    for _ in range(-by):
        counts.dec_num_running_requests_for_replica(replica)


def count_queued(handle: DeploymentHandle, by: int) -> None:
    """Count requests that wait to be sent past the handle, or, below 0, that do so no more."""
    handle._router._asyncio_router._metrics_manager.num_queued_requests += by


def most_queued(handle: DeploymentHandle) -> float:
    """So many may be counted: at `max_queued_requests` a handle refuses its own next call. 0 until it knows
    its deployment."""
    config = handle._router._asyncio_router._metrics_manager._deployment_config
    if config is None:
        return 0
    return inf if config.max_queued_requests < 0 else max(config.max_queued_requests - 1, 0)


def ongoing_requests() -> Callable[[str], AbstractAsyncContextManager[None]]:
    """In a replica's process: what to enter for each request that comes past Serve, with the method's name.

    Serve then counts it as one of its own: waits with it until fewer than `max_ongoing_requests` are there,
    lets it end before the replica stops, and shows it in its metrics. One that still waits is not counted.
    Raises `AttributeError` and the like at once where this Ray has other private parts.
    """
    from ray.serve._private.common import RequestMetadata

    worker = ray._private.worker.global_worker
    replica = worker.actors[worker.actor_id]._replica_impl
    start_request, record = replica._start_request, replica._metrics_manager.record_request_metrics

    @asynccontextmanager
    async def ongoing(method: str) -> AsyncIterator[None]:
        metadata = RequestMetadata(request_id="", internal_request_id="", call_method=method)
        async with start_request(metadata):
            begin, failure = time.perf_counter(), ""
            try:
                yield
            except InferenceError:  # the caller's mistake, or news of the model
                raise
            except BaseException as error:
                failure = type(error).__name__
                raise
            finally:
                record(
                    route="",
                    latency_ms=1000 * (time.perf_counter() - begin),
                    is_error=bool(failure),
                    exception_type=failure,
                )

    return ongoing
