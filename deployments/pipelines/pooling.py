"""Pooling: the vectors of a text's tokens become one vector, in the ways of sentence-transformers."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deployments.errors import ModelNotReady

if TYPE_CHECKING:
    import torch

# The values in sentence-transformers' 1_Pooling/config.json, in the older and the newer spelling.
POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "mean": "mean",
    "cls": "cls",
    "lasttoken": "last",
    "max": "max",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weightedmean",
}


def poolings_of(config: dict[str, Any]) -> tuple[str, ...]:
    """Return the poolings of a Pooling layer's config, in the order in which their vectors are joined."""
    modes = [name for name in POOLINGS if config.get(name) is True] or config.get("pooling_mode", "mean")
    modes = [modes] if isinstance(modes, str) else modes
    switches = [name for name, value in config.items() if name.startswith("pooling_mode_") and value]
    if unknown := sorted({*modes, *switches} - POOLINGS.keys()):
        raise ModelNotReady(f"the checkpoint is pooled by {unknown}, which is not supported")
    return tuple(POOLINGS[mode] for mode in modes)


def pool(
    states: "torch.Tensor", mask: "torch.Tensor", poolings: tuple[str, ...], skip: int = 0
) -> "torch.Tensor":
    """Return one vector per text, (texts, size), from padded token vectors, (texts, longest, size).

    Padding is on the right. The vectors of several poolings are joined. The first `skip` tokens of each text,
    its prompt, are not pooled.
    """
    import torch

    pooled = mask.clone()
    pooled[:, :skip] = 0
    return torch.cat([FUNCTIONS[name](states, mask, pooled) for name in poolings], dim=-1)


def _cls(states: "torch.Tensor", mask: "torch.Tensor", pooled: "torch.Tensor") -> "torch.Tensor":
    return states[range(len(states)), pooled.argmax(1)]


def _last(states: "torch.Tensor", mask: "torch.Tensor", pooled: "torch.Tensor") -> "torch.Tensor":
    return states[range(len(states)), mask.sum(1) - 1]


def _max(states: "torch.Tensor", mask: "torch.Tensor", pooled: "torch.Tensor") -> "torch.Tensor":
    return states.masked_fill(pooled.unsqueeze(-1) == 0, float("-inf")).amax(1)


def _mean(states: "torch.Tensor", mask: "torch.Tensor", pooled: "torch.Tensor") -> "torch.Tensor":
    return _weighted(states, pooled / pooled.sum(1, keepdim=True))


def _mean_sqrt_len(states: "torch.Tensor", mask: "torch.Tensor", pooled: "torch.Tensor") -> "torch.Tensor":
    return _weighted(states, pooled / pooled.sum(1, keepdim=True).sqrt())


def _weighted_mean(states: "torch.Tensor", mask: "torch.Tensor", pooled: "torch.Tensor") -> "torch.Tensor":
    weights = pooled * pooled.new_ones(pooled.shape).cumsum(1)  # the first token of a text weighs 1
    return _weighted(states, weights / weights.sum(1, keepdim=True))


def _weighted(states: "torch.Tensor", weights: "torch.Tensor") -> "torch.Tensor":
    return (weights.unsqueeze(1) @ states).squeeze(1)


FUNCTIONS: dict[str, Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]] = {
    "mean": _mean,
    "cls": _cls,
    "last": _last,
    "max": _max,
    "mean_sqrt_len": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
}
