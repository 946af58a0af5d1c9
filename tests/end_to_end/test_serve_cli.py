"""Ray Serve's commands on a cluster that `ray start` created."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.conftest import START_S, Cluster, in_modes, wait_for

pytestmark = [pytest.mark.cluster, in_modes("gpus")]

SENTENCE = {"inputs": "A quiet and lovely place."}


def serve(*arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("serve")), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def is_ready(cluster: Cluster) -> bool:
    return cluster.http.get("/health/ready").status_code == httpx.codes.OK


def test_serve_deploy_status_and_shutdown(cluster: Cluster) -> None:
    config = str(cluster.models.parent / "serve_config.yaml")
    before = {path.name: cluster.pids(path.name) for path in cluster.models.iterdir()}
    serve("deploy", config)
    wait_for(lambda: is_ready(cluster), 60, "the gateway after a second deploy")
    assert {path.name: cluster.pids(path.name) for path in cluster.models.iterdir()} == before
    status = serve("status")
    assert "gateway:" in status and "sentiment:" in status
    serve("shutdown", "--yes")
    wait_for(lambda: not cluster.pids("sentiment"), 30, "the end of the models")
    serve("deploy", config)
    wait_for(lambda: is_ready(cluster), START_S, "the gateway after a shutdown")
    assert cluster.http.post("/models/sentiment", json=SENTENCE).status_code == httpx.codes.OK
