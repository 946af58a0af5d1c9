"""Models of the Hub on a cluster: the card while a checkpoint downloads, and a Hub that never answers."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.cluster import ROOT, Cluster, in_modes, wait_for
from tests.fake_hub import NAME, FakeHub, silent_url
from tests.http_server import serve_http

pytestmark = [pytest.mark.cluster, in_modes("fast")]

DEADLINE_S = 5.0


def add_from_hub(cluster: Cluster, model_id: str, url: str, cache: Path) -> None:
    """Add a model whose checkpoint is on the Hub at `url`."""
    env_vars = {"HF_ENDPOINT": url, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0"}
    config: dict[str, Any] = yaml.safe_load((ROOT / "models" / "sentiment" / "config.yml").read_text())
    config |= {
        "hf_model": NAME,
        "deployment": {"ray_actor_options": {"runtime_env": {"env_vars": env_vars}}},
    }
    folder = cluster.models / model_id
    folder.mkdir()
    (folder / "config.yml").write_text(yaml.safe_dump(config))


def test_card_shows_the_progress_of_a_download(cluster: Cluster, tmp_path: Path) -> None:
    reasons: list[str] = []

    def is_ready() -> bool:
        card = cluster.card("from-hub")
        reasons.append(card.get("reason") or "")
        return bool(card["state"] == "ready")

    folder = Path(shutil.copytree(ROOT / "models" / "sentiment", tmp_path / "checkpoint"))
    (folder / "9_Padding").mkdir()  # a folder of sentence-transformers, which this module does not read
    (folder / "9_Padding" / "vocab.txt").write_bytes(bytes(12_000_000))
    with serve_http(FakeHub(folder, delay_s=0.01).app()) as url:
        add_from_hub(cluster, "from-hub", url, tmp_path / "cache")
        wait_for(is_ready, 60, "the model of the Hub")
    cluster.remove("from-hub")
    downloads = [reason for reason in reasons if reason.startswith("downloading ")]
    assert len({*downloads}) > 2, {*reasons}
    assert all(reason.endswith(" of 12.5 MB") for reason in downloads)
    assert "reading the weights" in reasons or "warming up" in reasons


def test_card_of_a_model_whose_hub_never_answers(cluster: Cluster, tmp_path: Path) -> None:
    with silent_url() as url:
        add_from_hub(cluster, "no-hub", url, tmp_path)
        wait_for(lambda: cluster.pids("no-hub"), 60, "the replica")
        begin = time.monotonic()
        card = cluster.wait_for_state("no-hub", "unavailable")
        print(f"unavailable {time.monotonic() - begin:.1f} s after the process of the replica")
    cluster.remove("no-hub")
    assert card["reason"].startswith(f"'{NAME}' is not in this machine's cache; the Hub ({url}) cannot be")
