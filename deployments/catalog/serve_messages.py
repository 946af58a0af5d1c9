"""Reads the texts in which Ray Serve reports a failure; all other facts come from typed fields.

Serve has no field for the exception that a replica's constructor raised. It writes `str()` of the
`RayTaskError`, a traceback whose last lines are the exception's class and message, behind a sentence that
counts the attempts: `DeploymentState.record_replica_startup_failure` and `.check_curr_status` in
ray/serve/_private/deployment_state.py.
"""

import re
from typing import Any

EXCEPTION = re.compile(r"^([\w.]+): (.*)$")  # the line in a traceback that names an exception
# Serve's sentences about slow starts, in `DeploymentState.check_and_update_replicas`.
SLOW_START = re.compile(r"has (\d+) replicas that have taken more than \d+s to (be scheduled|initialize)")
WAITS_FOR = {
    "be scheduled": "for a node with free resources, or for its runtime environment",
    "initialize": "for its weights to load",
}
OURS = "deployments."  # exceptions from here are sentences for the reader, and need no class in front


def message(app: dict[str, Any]) -> str:
    """Return Serve's message about an application: how often it has failed, and the traceback."""
    (deployment,) = app["deployments"].values()
    return deployment["message"] or str(app["message"])


def reason_of(message: str) -> str:
    """Return the sentence at the end of a traceback; a message without one on one line."""
    if match := SLOW_START.search(message):
        replicas = "a replica waits" if match[1] == "1" else f"{match[1]} replicas wait"
        return f"{replicas} {WAITS_FOR[match[2]]}"
    lines = [line for line in message.strip().splitlines() if line.strip()]
    for line in reversed(lines):
        if match := EXCEPTION.match(line):
            name = match[1].rpartition(".")[2]
            return match[2] if match[1].startswith(OURS) else f"{name}: {match[2]}"
    return " ".join(lines)
