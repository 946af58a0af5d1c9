"""Ray Serve's commands on a cluster that `ray start` created."""

import httpx
import pytest

from tests.end_to_end.cluster import START_S, Cluster, in_modes, serve, wait_for

pytestmark = [pytest.mark.cluster, in_modes("gpus")]

SENTENCE = {"inputs": "A quiet and lovely place."}


def is_ready(cluster: Cluster) -> bool:
    return cluster.http.get("/health/ready").status_code == httpx.codes.OK


def test_serve_deploy_status_and_shutdown(cluster: Cluster) -> None:
    config = str(cluster.config)
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
