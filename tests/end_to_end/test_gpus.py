"""Logical GPUs on a machine that has none: fractions share a card, and what cannot be placed says so."""

import httpx
import pytest

from tests.end_to_end.conftest import Cluster, in_lanes, wait_for

pytestmark = [pytest.mark.cluster, in_lanes("gpus")]


def wants(gpus: float) -> dict[str, object]:
    return {"num_replicas": 1, "ray_actor_options": {"num_gpus": gpus}}


def test_four_quarters_share_one_gpu_and_a_fifth_that_wants_eight_is_unavailable(cluster: Cluster) -> None:
    quarters = [f"quarter{number}" for number in range(4)]
    for model_id in quarters:
        cluster.add(model_id, like="sentiment", deployment=wants(0.25))
    cluster.add("greedy", like="sentiment", deployment=wants(8))
    for model_id in quarters:
        description = wait_for(
            lambda id=model_id: cluster.card(id).get("description"), 90, f"{model_id} loaded"
        )
        assert (description["device"], description["gpu_ids"]) == ("cpu", ["0"])
        answer = cluster.http.post(f"/models/{model_id}", json={"inputs": "A fine day."})
        assert answer.status_code == httpx.codes.OK
    card = cluster.wait_for_state("greedy", "unavailable", 20)
    assert card["reason"] == "a replica wants 8 GPU, and no node has more than 4"
    refused = cluster.http.post("/models/greedy", json={"inputs": "A fine day."})
    assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert cluster.card("sentiment")["state"] == "ready"
    for model_id in (*quarters, "greedy"):
        cluster.remove(model_id)


def test_a_model_that_has_all_gpus_is_replaced_nevertheless(cluster: Cluster) -> None:
    cluster.add("whole", like="sentiment", deployment=wants(4))
    cluster.wait_for_state("whole", "ready", 90)
    (old,) = cluster.pids("whole")
    cluster.edit("whole", engine={"dtype": "bfloat16"})
    wait_for(
        lambda: (cluster.card("whole").get("description") or {}).get("dtype") == "bfloat16", 120, "bfloat16"
    )
    assert cluster.pids("whole") and old not in cluster.pids("whole")
    cluster.remove("whole")
