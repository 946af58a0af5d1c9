"""A tenth task, dropped in as one file: live on every door; its slow stream shows what becomes of callers."""

import json
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.conftest import Cluster, in_lanes, wait_for
from tests.end_to_end.test_requests import Caikit

pytestmark = [pytest.mark.cluster, in_lanes("tenth")]


def test_it_is_live_on_every_door(cluster: Cluster) -> None:
    card = cluster.wait_for_state("counter", "ready")
    assert card["task"] == "counting"
    body = {"inputs": "/dev/null", "parameters": {"up_to": 5}}
    assert cluster.http.post("/models/counter/pipeline/counting", json=body).json() == [0, 1, 2, 3, 4]
    answer = cluster.http.post("/api/v1/task/counting", json={"inputs": "/dev/null", "model_id": "counter"})
    assert answer.json() == {"numbers": [0, 1, 2]}
    told = Caikit(cluster.channel).call("Counting", {"text_in": "/dev/null"}, ("mm-model-id", "counter"))
    assert [int(number) for number in told["numbers"]] == [0, 1, 2]
    assert "/models/{model_id}/pipeline/counting" in cluster.http.get("/openapi.json").json()["paths"]


def test_a_stream_comes_as_it_is_made_and_stops_when_its_caller_goes(
    cluster: Cluster, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    body = {"inputs": str(end), "stream": True, "parameters": {"up_to": 100_000}}
    with cluster.http.stream("POST", "/models/counter", json=body) as answer:
        assert answer.status_code == httpx.codes.OK
        lines = (line for line in answer.iter_lines() if line)
        numbers = [json.loads(next(lines).removeprefix("data:"))["number"] for _ in range(20)]
    assert numbers == list(range(20))
    wait_for(end.exists, 5, "the work's end")
    assert int(wait_for(end.read_text, 1, "how far it went")) < 300


def test_no_slot_stays_taken(cluster: Cluster, tmp_path: Path) -> None:
    body = {"inputs": "/dev/null", "stream": True, "parameters": {"up_to": 100_000}}
    for _ in range(40):
        with cluster.http.stream("POST", "/models/counter", json=body) as answer:
            next(answer.iter_lines())
    short = {**body, "parameters": {"up_to": 2}}
    assert cluster.http.post("/models/counter", json=short, timeout=10).text.count("data:") == 2
