"""Model folders that are added, edited, broken or removed while the cluster runs; other models stay live."""

import os
import shutil
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tests.end_to_end.cluster import ROOT, Cluster, in_modes, wait_for
from tests.end_to_end.load import Load

with_and_without_haproxy = in_modes("fast", "slow")
with_haproxy = in_modes("fast")  # what happens behind the Routers does not depend on the proxy
pytestmark = pytest.mark.cluster

SENTENCE = {"inputs": "What a delightful little restaurant."}
LONG = {"inputs": "One day", "parameters": {"max_new_tokens": 200}}
FAST_SCALING = {
    "upscale_delay_s": 0.5,
    "downscale_delay_s": 1,
    "look_back_period_s": 1,
    "metrics_interval_s": 0.5,
}


def status(cluster: Cluster, model_id: str, timeout: float = 30) -> int:
    return cluster.http.post(f"/models/{model_id}", json=SENTENCE, timeout=timeout).status_code


def is_answering(cluster: Cluster, model_id: str) -> bool:
    return status(cluster, model_id) == httpx.codes.OK


def unavailable_error(cluster: Cluster, model_id: str) -> Any:
    """Return the body of the 503 of an unavailable model, or False."""
    response = cluster.http.post(f"/models/{model_id}", json=SENTENCE)
    return response.status_code == httpx.codes.SERVICE_UNAVAILABLE and response.json()


@with_and_without_haproxy
def test_added_folder_is_served_and_removed_folder_returns_404(cluster: Cluster) -> None:
    cluster.add("copied", like="sentiment")
    wait_for(lambda: is_answering(cluster, "copied"), 60, "the response of the added model")
    assert cluster.pids("copied")
    cluster.remove("copied")
    wait_for(lambda: cluster.http.get("/models/copied").status_code == httpx.codes.NOT_FOUND, 30, "404")
    # The other Router may receive the update later.
    wait_for(lambda: status(cluster, "copied") == httpx.codes.NOT_FOUND, 30, "404 for requests")
    wait_for(lambda: not cluster.pids("copied"), 20, "the processes' end")


@with_haproxy
def test_model_that_changes_its_module_serves_until_the_new_one_is_ready(cluster: Cluster) -> None:
    cluster.add("changing", like="embeddings")
    wait_for(lambda: is_answering(cluster, "changing"), 60, "the response of the added model")
    sentiment = yaml.safe_load((ROOT / "models" / "sentiment" / "config.yml").read_text())
    with Load(f"{cluster.url}/models/changing", SENTENCE) as load:
        cluster.edit("changing", **sentiment, hf_model=str(ROOT / "models" / "sentiment"))
        wait_for(lambda: len(cluster.pids("changing")) == 2, 30, "two replicas")
        assert cluster.card("changing")["task"] == "embeddings"
        wait_for(lambda: cluster.card("changing")["task"] == "sentiment", 60, "the new module")
        wait_for(lambda: len(cluster.pids("changing")) == 1, 30, "the end of the old replica")
    print(load)
    assert not load.failures, load
    cluster.remove("changing")


@pytest.mark.skipif(sys.platform == "darwin", reason="psutil has no memory maps there")
@with_haproxy
def test_replica_does_not_import_pandas(cluster: Cluster) -> None:
    """Serve imports pandas in every replica if it is installed; here it is."""
    assert find_spec("pandas")
    (pid, *_) = cluster.pids("sentiment")
    assert not [map_.path for map_ in psutil.Process(pid).memory_maps() if "/pandas/" in map_.path]


@with_haproxy
def test_touching_the_config_retries_a_failed_model(cluster: Cluster, tmp_path: Path) -> None:
    weights, moved = tmp_path / "elsewhere" / "model.safetensors", tmp_path / "moved"
    shutil.copytree(ROOT / "models" / "sentiment", weights.parent)
    weights.rename(moved)
    folder = cluster.add("late", like="sentiment", hf_model=str(weights.parent))
    cluster.wait_for_state("late", "unavailable")
    moved.rename(weights)
    (folder / "config.yml").touch()
    cluster.wait_for_state("late", "ready")
    wait_for(lambda: is_answering(cluster, "late"), 20, "its response")
    cluster.remove("late")


@with_haproxy
def test_scaling_edit_keeps_the_process_and_fails_no_request(cluster: Cluster) -> None:
    cluster.add("scaled", like="sentiment")
    cluster.wait_for_state("scaled", "ready")
    (pid,) = cluster.pids("scaled")
    with Load(f"{cluster.url}/models/scaled", SENTENCE) as load:
        cluster.edit("scaled", deployment={"num_replicas": 2})
        wait_for(lambda: cluster.card("scaled")["replicas"]["running"] == 2, 60, "two replicas")
        assert pid in cluster.pids("scaled")
        time.sleep(2)
        cluster.edit("scaled", deployment={"num_replicas": 1}, batching={"max_batch_size": 3})
        wait_for(lambda: cluster.card("scaled")["replicas"] == {"running": 1, "wanted": 1}, 60, "one replica")
        time.sleep(1)
    assert not load.failures, load
    wait_for(lambda: len(cluster.pids("scaled")) == 1, 20, "one process")
    description = wait_for(lambda: cluster.card("scaled")["description"], 20, "its description")
    assert description["max_batch_size"] == 3
    cluster.remove("scaled")


@with_and_without_haproxy
def test_unknown_config_key_is_reported_and_other_models_stay_live(cluster: Cluster) -> None:
    with Load(f"{cluster.url}/models/sentiment", SENTENCE) as load:
        cluster.add("typo", like="sentiment", hf_modle="x")
        card = cluster.wait_for_state("typo", "unavailable", 15)
        error = wait_for(lambda: unavailable_error(cluster, "typo"), 20, "503 from either Router")
        cluster.remove("typo")
    assert "typo/config.yml: `hf_modle`" in card["reason"]
    assert "hf_modle" in error["error"]
    assert not load.failures, load


@with_haproxy
def test_damaged_checkpoint_is_unavailable_with_the_reason(cluster: Cluster) -> None:
    folder = cluster.add("damaged", like="sentiment")
    (folder / "model.safetensors").write_bytes(b"damaged")
    card = cluster.wait_for_state("damaged", "unavailable", 60)
    assert "Traceback" not in card["reason"]
    assert card["reason"]
    cluster.remove("damaged")


@with_haproxy
def test_first_request_waits_while_a_model_scales_from_zero(cluster: Cluster) -> None:
    scaling = {"min_replicas": 0, "initial_replicas": 0, "max_replicas": 1, "downscale_to_zero_delay_s": 1}
    cluster.add("sleeper", like="sentiment", deployment={"autoscaling_config": {**FAST_SCALING, **scaling}})
    cluster.wait_for_state("sleeper", "ready", 20)
    for _ in range(2):
        assert not cluster.pids("sleeper")
        assert status(cluster, "sleeper", timeout=70) == httpx.codes.OK
        assert cluster.pids("sleeper")
        wait_for(lambda: not cluster.pids("sleeper"), 60, "the end of its replica")
    cluster.remove("sleeper")


@with_haproxy
def test_concurrent_requests_scale_a_model_up_and_down(cluster: Cluster) -> None:
    scaling = {"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 1}
    cluster.add(
        "busy", like="text_generation", deployment={"autoscaling_config": {**FAST_SCALING, **scaling}}
    )
    cluster.wait_for_state("busy", "ready")
    with Load(f"{cluster.url}/models/busy", LONG) as load:
        wait_for(lambda: cluster.card("busy")["replicas"]["running"] == 2, 120, "two replicas")
    assert not load.failures, load
    wait_for(lambda: cluster.card("busy")["replicas"] == {"running": 1, "wanted": 1}, 60, "one replica")
    cluster.remove("busy")


@with_haproxy
def test_rolling_update_fails_no_request(cluster: Cluster) -> None:
    cluster.add("rolled", like="text_generation", deployment={"num_replicas": 2})
    wait_for(lambda: len(cluster.pids("rolled")) == 2, 60, "two replicas")
    cluster.wait_for_state("rolled", "ready")
    before = cluster.pids("rolled")
    with Load(f"{cluster.url}/models/rolled", LONG) as load:  # some are in flight whenever a replica stops
        cluster.edit("rolled", deployment={"num_replicas": 2, "ray_actor_options": {"num_cpus": 0.06}})
        wait_for(lambda: not before & cluster.pids("rolled"), 90, "the end of the old replicas")
        time.sleep(1)
    assert not load.failures, load
    assert len(cluster.pids("rolled")) == 2
    cluster.remove("rolled")


@pytest.mark.parametrize("path", ["/models/../x", "/models/..%2Fx", "/models/%2e%2e%2fx", "/models/a%2Fb"])
@with_and_without_haproxy
def test_path_is_not_a_model_id(cluster: Cluster, path: str) -> None:
    request = cluster.http.build_request("POST", cluster.url, json=SENTENCE)
    request.url = request.url.copy_with(raw_path=path.encode())
    assert cluster.http.send(request).status_code in (httpx.codes.NOT_FOUND, httpx.codes.BAD_REQUEST)


@pytest.mark.parametrize("victim", ["sentiment:model", "gateway:Catalog", "gateway:Router"])
@with_and_without_haproxy
def test_killed_process_restarts_and_few_requests_fail(cluster: Cluster, victim: str) -> None:
    before = cluster.pids(victim)
    with Load(f"{cluster.url}/models/sentiment", SENTENCE) as load:
        time.sleep(2)
        os.kill(min(before), signal.SIGKILL)
        wait_for(
            lambda: len(cluster.pids(victim)) == len(before) and min(before) not in cluster.pids(victim),
            40,
            victim,
        )
        time.sleep(4)
    print(f"{cluster.mode} mode, kill -9 {victim}: {load}")
    # Requests reach every Router in turn, and a new one must have the Catalog's snapshot.
    wait_for(
        lambda: all(is_answering(cluster, "sentiment") for _ in range(10)), 20, "responses of all Routers"
    )
    assert len(load.failures) <= 10, load
