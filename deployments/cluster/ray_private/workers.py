"""Ray's worker processes: start idle ones ahead of time, and run a function in each."""

from typing import Any

import ray

HOOK = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"
"""The variable of a runtime_env that names the function that a worker calls when it has started."""


def prestart_workers(count: int, runtime_env: dict[str, Any], keep_s: int, only: str | None = None) -> None:
    """Start idle workers with this runtime_env for future actors, on every node or on the node `only`.

    Ray itself keeps idle workers for tasks, not for actors.
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
