"""Draws by the row's own seed: fair, and the same wherever the row stands."""

import math
from typing import Any

import pytest
import torch

from deployments.generation.sampling import Draw, Sampler, gumbel, noise_key

pytestmark = pytest.mark.model  # loads weights: `make check` leaves these to `make test`

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -3.0, 1.5])
ROWS = 20_000


def shares(settings: dict[str, Any], keys: list[int]) -> torch.Tensor:
    drawn = Draw(settings)(LOGITS.expand(len(keys), -1), keys)
    return drawn.bincount(minlength=len(LOGITS)) / len(keys)


@pytest.mark.parametrize("keys", [
    [noise_key(seed, 0) for seed in range(ROWS)],
    [noise_key(3, place) for place in range(ROWS)],
], ids=["by seed", "by place"])  # fmt: skip
@pytest.mark.parametrize(("settings", "kept"), [
    ({}, 8), ({"temperature": 1.7}, 8), ({"temperature": 0.5}, 8), ({"top_k": 3}, 3), ({"top_k": 50}, 8),
    ({"top_p": 0.7}, 3), ({"top_k": 4, "temperature": 1.5, "top_p": 0.6}, 2),
])  # fmt: skip
def test_draws_follow_the_softmax(settings: dict[str, Any], kept: int, keys: list[int]) -> None:
    """Twenty thousand draws, against the softmax of what the cuts leave; five deviations of slack."""
    warm = LOGITS / settings.get("temperature", 1.0)
    warm[LOGITS.argsort(descending=True)[kept:]] = -math.inf
    expected = warm.softmax(-1)
    slack = 5 * (expected * (1 - expected) / ROWS).sqrt()
    assert ((shares(settings, keys) - expected).abs() <= slack).all()


def test_noise_is_gumbel_s() -> None:
    noise = gumbel([noise_key(seed, 5) for seed in range(100)], torch.arange(5_000)).double()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.01)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.03)
    assert noise.isfinite().all() and len(noise.unique()) > 0.98 * noise.numel()


@pytest.mark.parametrize("keys", [
    [(1, 0), (2, 0)], [(1, 0), (1, 1)], [(1, 2), (2, 1)], [(0, 1), (1, 0)],
])  # fmt: skip
def test_noises_have_nothing_to_do_with_each_other(keys: list[tuple[int, int]]) -> None:
    noise = gumbel([noise_key(*key) for key in keys], torch.arange(100_000))
    together = torch.corrcoef(noise.double())
    assert abs(together[0, 1].item()) < 5 / math.sqrt(100_000)


def test_the_cut_does_not_move_the_noise() -> None:
    """So that the last digits of a logit, which a batch may change, rarely change the token."""
    scores = torch.randn(50, 300, generator=torch.Generator().manual_seed(0))
    keys = [noise_key(seed, 1) for seed in range(50)]
    least = scores.topk(20).values[:, -1:]
    whole = scores.masked_fill(scores < least, -math.inf) + gumbel(keys, torch.arange(300))
    assert Draw({"top_k": 20})(scores, keys).tolist() == whole.argmax(-1).tolist()


def test_a_logits_processor_draws_the_same() -> None:
    sampler = Sampler({"temperature": 1.2}, [7, 8], "cpu")
    scores = torch.randn(2, 300, generator=torch.Generator().manual_seed(0))
    for place in range(5):
        drawn = Draw({"temperature": 1.2})(scores, [noise_key(7, place), noise_key(8, place)])
        assert sampler(torch.zeros(2, 1), scores).argmax(-1).tolist() == drawn.tolist()
