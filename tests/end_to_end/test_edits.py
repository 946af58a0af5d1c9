"""Edits of a live model under load: a good one is served, a bad one changes nothing but the reason."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.cluster import Cluster, in_modes, wait_for
from tests.end_to_end.load import Load

pytestmark = [pytest.mark.cluster, in_modes("fast")]

SENTENCE = {"inputs": "What a delightful little restaurant."}
REFUSED = "the current content of its folder is refused"


def append(line: str) -> Callable[[Path], None]:
    return lambda folder: replace(folder / "config.yml", (folder / "config.yml").read_bytes() + line.encode())


def replace(path: Path, content: bytes) -> None:
    """Write a file as an editor does: whole, under its name."""
    new = path.with_name(".new")
    new.write_bytes(content)
    os.replace(new, path)


BAD: list[Callable[[Path], None]] = [
    append("\nhf_modle: x\n"),
    append("\nbatching: {max_batch_size: 0}\n"),
    append("\nmodule_id: 00000000-0000-0000-0000-000000000000\n"),
    append("\nengine: {name: nonsense}\n"),
    append("\nengine: [\n"),
    append("\ndeployment: {num_replicas: many}\n"),
    lambda folder: replace(folder / "adapter_config.json", b"{}"),
    lambda folder: (folder / "config.json").unlink(),
    append("\n\t- tab\n"),
    lambda folder: replace(folder / "model.safetensors", b"damaged"),
]


GOOD_AFTER = 3  # bad edits: a good one costs a new replica


def test_ten_bad_edits_and_good_ones_between_fail_no_request(cluster: Cluster) -> None:
    folder = cluster.add("edited", like="sentiment")
    cluster.wait_for_state("edited", "ready")
    good = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    def refused() -> bool:
        card = cluster.card("edited")
        return bool(card["state"] == "ready" and card["reason"].startswith(REFUSED))

    def restored(limit: int) -> bool:
        card = cluster.card("edited")
        description = card["description"] or {}
        return bool(not card["reason"] and description.get("max_batch_size") == limit)

    with Load(f"{cluster.url}/models/edited", SENTENCE) as load:
        for number, edit in enumerate(BAD, 1):
            edit(folder)
            wait_for(refused, 60, f"the refusal of edit {number}: {cluster.card('edited')}")
            (folder / "adapter_config.json").unlink(missing_ok=True)
            for name, content in good.items():
                replace(folder / name, content)
            limit = number - number % GOOD_AFTER + 1
            append(f"\nbatching: {{max_batch_size: {limit}}}\n")(folder)
            wait_for(lambda limit=limit: restored(limit), 60, f"the good edit {number}")
    assert load.sent > 100 and not load.failures, load
    cluster.remove("edited")
