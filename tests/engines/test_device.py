"""GPU memory limits and releases, with torch's CUDA functions replaced."""

from typing import Any

import pytest
import torch

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.device import release_cached_memory


@pytest.fixture
def cuda_calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record the calls of torch's memory functions, in order."""
    calls: list[Any] = []
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", calls.append)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: calls.append("empty"))
    return calls


@pytest.mark.parametrize(("device", "gpus", "limits"), [
    ("cuda", 0.25, [0.9 / 4]), ("cuda", 1.0, []), ("cuda", 0.0, []), ("cpu", 0.25, []),
])  # fmt: skip
def test_gpu_memory_is_limited_before_weights_are_moved(
    device: str, gpus: float, limits: list[float], cuda_calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = torch.nn.Linear(2, 3)
    report: dict[str, set[str]] = {"missing_keys": set(), "unexpected_keys": set()}
    monkeypatch.setattr(network, "to", lambda device: cuda_calls.append(device) or network)
    monkeypatch.setattr(Checkpoint, "from_pretrained", lambda *_, **__: (network, report))
    monkeypatch.setattr("deployments.engines.device.assigned_gpus", lambda: gpus)
    Checkpoint("a", device=device, dtype="float32", engine="none").network(torch.nn.Linear)
    assert cuda_calls == [*map(pytest.approx, limits), device]


@pytest.mark.parametrize(("device", "calls"), [("cuda", ["empty"]), ("cpu", [])])
def test_release_cached_memory(device: str, calls: list[str], cuda_calls: list[Any]) -> None:
    release_cached_memory(device)
    assert cuda_calls == calls
