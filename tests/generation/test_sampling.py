"""Seeded sampling: it follows the softmax, and does not depend on the batch."""

import math
from typing import Any

import pytest
import torch

from deployments.generation.sampling import GumbelSampler, SamplingLogitsProcessor, gumbel_noise, noise_key

pytestmark = pytest.mark.model

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -3.0, 1.5])
SAMPLES = 20_000


def frequencies(sampling: dict[str, Any], keys: list[int]) -> torch.Tensor:
    token_ids = GumbelSampler(sampling)(LOGITS.expand(len(keys), -1), keys)
    return token_ids.bincount(minlength=len(LOGITS)) / len(keys)


@pytest.mark.parametrize("keys", [
    [noise_key(seed, 0) for seed in range(SAMPLES)],
    [noise_key(3, position) for position in range(SAMPLES)],
], ids=["by seed", "by position"])  # fmt: skip
@pytest.mark.parametrize(("sampling", "candidates"), [
    ({}, 8), ({"temperature": 1.7}, 8), ({"temperature": 0.5}, 8), ({"top_k": 3}, 3), ({"top_k": 50}, 8),
    ({"top_p": 0.7}, 3), ({"top_k": 4, "temperature": 1.5, "top_p": 0.6}, 2),
])  # fmt: skip
def test_samples_follow_the_softmax(sampling: dict[str, Any], candidates: int, keys: list[int]) -> None:
    """Twenty thousand samples, against the softmax after the filters, within five standard deviations."""
    scores = LOGITS / sampling.get("temperature", 1.0)
    scores[LOGITS.argsort(descending=True)[candidates:]] = -math.inf
    expected = scores.softmax(-1)
    tolerance = 5 * (expected * (1 - expected) / SAMPLES).sqrt()
    assert ((frequencies(sampling, keys) - expected).abs() <= tolerance).all()


def test_noise_has_a_gumbel_distribution() -> None:
    noise = gumbel_noise([noise_key(seed, 5) for seed in range(100)], torch.arange(5_000)).double()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.01)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.03)
    assert noise.isfinite().all() and len(noise.unique()) > 0.98 * noise.numel()


@pytest.mark.parametrize("keys", [
    [(1, 0), (2, 0)], [(1, 0), (1, 1)], [(1, 2), (2, 1)], [(0, 1), (1, 0)],
])  # fmt: skip
def test_noises_of_different_keys_are_uncorrelated(keys: list[tuple[int, int]]) -> None:
    noise = gumbel_noise([noise_key(*key) for key in keys], torch.arange(100_000))
    correlation = torch.corrcoef(noise.double())
    assert abs(correlation[0, 1].item()) < 5 / math.sqrt(100_000)


def test_top_k_does_not_change_the_noise() -> None:
    """The last digits of a logit, which a batch may change, then rarely change the token."""
    scores = torch.randn(50, 300, generator=torch.Generator().manual_seed(0))
    keys = [noise_key(seed, 1) for seed in range(50)]
    least = scores.topk(20).values[:, -1:]
    noisy = scores.masked_fill(scores < least, -math.inf) + gumbel_noise(keys, torch.arange(300))
    assert GumbelSampler({"top_k": 20})(scores, keys).tolist() == noisy.argmax(-1).tolist()


def test_logits_processor_samples_the_same_tokens() -> None:
    processor = SamplingLogitsProcessor({"temperature": 1.2}, [7, 8], "cpu")
    scores = torch.randn(2, 300, generator=torch.Generator().manual_seed(0))
    for position in range(5):
        keys = [noise_key(7, position), noise_key(8, position)]
        expected = GumbelSampler({"temperature": 1.2})(scores, keys)
        assert processor(torch.zeros(2, 1), scores).argmax(-1).tolist() == expected.tolist()
