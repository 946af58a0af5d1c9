"""Logical GPUs on a machine without GPUs: fractions share a GPU; an unplaceable model reports why."""

import httpx
import pytest

from tests.end_to_end.cluster import Cluster, in_modes, wait_for

pytestmark = [pytest.mark.cluster, in_modes("gpus")]


def deployment_with_gpus(gpus: float) -> dict[str, object]:
    return {"num_replicas": 1, "ray_actor_options": {"num_gpus": gpus}}


def test_four_quarter_gpu_models_share_one_gpu_and_an_unplaceable_model_is_unavailable(
    cluster: Cluster,
) -> None:
    quarters = [f"quarter{number}" for number in range(4)]
    for model_id in quarters:
        cluster.add(model_id, like="sentiment", deployment=deployment_with_gpus(0.25))
    cluster.add("greedy", like="sentiment", deployment=deployment_with_gpus(8))
    for model_id in quarters:
        description = wait_for(
            lambda id=model_id: cluster.card(id).get("description"), 90, f"{model_id} loaded"
        )
        assert (description["device"], description["gpu_ids"]) == ("cpu", ["0"])
        response = cluster.http.post(f"/models/{model_id}", json={"inputs": "A fine day."})
        assert response.status_code == httpx.codes.OK
    card = cluster.wait_for_state("greedy", "unavailable", 20)
    assert card["reason"] == "a replica wants 8 GPU, and no node has more than 4"
    refused = cluster.http.post("/models/greedy", json={"inputs": "A fine day."})
    assert refused.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert cluster.card("sentiment")["state"] == "ready"
    for model_id in (*quarters, "greedy"):
        cluster.remove(model_id)


def test_model_on_all_gpus_is_still_replaced_after_an_edit(cluster: Cluster) -> None:
    cluster.add("whole", like="sentiment", deployment=deployment_with_gpus(4))
    cluster.wait_for_state("whole", "ready", 90)
    (old,) = cluster.pids("whole")
    cluster.edit("whole", engine={"dtype": "bfloat16"})
    wait_for(
        lambda: (cluster.card("whole").get("description") or {}).get("dtype") == "bfloat16", 120, "bfloat16"
    )
    assert cluster.pids("whole") and old not in cluster.pids("whole")
    cluster.remove("whole")
