"""A task added as one file is live in every dialect; its slow stream shows how disconnects are handled."""

import json
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.cluster import Cluster, in_modes, wait_for
from tests.end_to_end.test_requests import Caikit

pytestmark = [pytest.mark.cluster, in_modes("added_task")]


def test_added_task_is_live_in_every_dialect(cluster: Cluster) -> None:
    card = cluster.wait_for_state("counter", "ready")
    assert card["task"] == "counting"
    body = {"inputs": "/dev/null", "parameters": {"up_to": 5}}
    assert cluster.http.post("/models/counter/pipeline/counting", json=body).json() == [0, 1, 2, 3, 4]
    response = cluster.http.post("/api/v1/task/counting", json={"inputs": "/dev/null", "model_id": "counter"})
    assert response.json() == {"numbers": [0, 1, 2]}
    message = Caikit(cluster.channel).call("Counting", {"text_in": "/dev/null"}, ("mm-model-id", "counter"))
    assert [int(number) for number in message["numbers"]] == [0, 1, 2]
    assert "/models/{model_id}/pipeline/counting" in cluster.http.get("/openapi.json").json()["paths"]


def test_stream_is_not_buffered_and_stops_when_the_client_disconnects(
    cluster: Cluster, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    body = {"inputs": str(end), "stream": True, "parameters": {"up_to": 100_000}}
    with cluster.http.stream("POST", "/models/counter", json=body) as response:
        assert response.status_code == httpx.codes.OK
        lines = (line for line in response.iter_lines() if line)
        numbers = [json.loads(next(lines).removeprefix("data:"))["number"] for _ in range(20)]
    assert numbers == list(range(20))
    wait_for(end.exists, 5, "the end of the work")
    assert int(wait_for(end.read_text, 1, "the last number")) < 300


def test_disconnected_streams_release_their_capacity(cluster: Cluster, tmp_path: Path) -> None:
    body = {"inputs": "/dev/null", "stream": True, "parameters": {"up_to": 100_000}}
    for _ in range(40):
        with cluster.http.stream("POST", "/models/counter", json=body) as response:
            next(response.iter_lines())
    short = {**body, "parameters": {"up_to": 2}}
    assert cluster.http.post("/models/counter", json=short, timeout=10).text.count("data:") == 2
