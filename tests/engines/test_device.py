"""A share of a GPU, on a machine that has none: what torch is told of it."""

from typing import Any

import pytest
import torch

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.device import release_cached_memory


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of torch, in turn."""
    told: list[Any] = []
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", told.append)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: told.append("empty"))
    return told


@pytest.mark.parametrize(("device", "gpus", "bound"), [
    ("cuda", 0.25, [0.9 / 4]), ("cuda", 1.0, []), ("cuda", 0.0, []), ("cpu", 0.25, []),
])  # fmt: skip
def test_before_weights_are_there_torch_is_bound_to_the_replica_s_share(
    device: str, gpus: float, bound: list[float], told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = torch.nn.Linear(2, 3)
    monkeypatch.setattr(network, "to", lambda device: told.append(device) or network)
    monkeypatch.setattr(Checkpoint, "read", lambda *_, **__: (network, {"missing_keys": set()}))
    monkeypatch.setattr("deployments.engines.device.assigned_gpus", lambda: gpus)
    Checkpoint("a", device=device, dtype="float32", engine="none").network(None)
    assert told == [*map(pytest.approx, bound), device]


@pytest.mark.parametrize(("device", "asked"), [("cuda", ["empty"]), ("cpu", [])])
def test_memory_that_is_not_used_is_given_back(device: str, asked: list[str], told: list[Any]) -> None:
    release_cached_memory(device)
    assert told == asked
