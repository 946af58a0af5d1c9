"""Generation in torch without padding: one row of tokens, and a separate cache for each sequence.

A pass may run the prompts of some sequences and the next tokens of others. It is for CPUs, where padding
costs as much as tokens.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deployments.engines.attention import attention_implementation, attention_override, register_attention
from deployments.engines.equivalence import TOLERANCE, check_against_torch
from deployments.engines.unpadded_runner import BaseUnpaddedRunner

if TYPE_CHECKING:
    import torch

ATTENTION = "unpadded"
RESERVED_TOKENS = 64  # space that a cache reserves when it grows


class SequenceCache:
    """The keys and values of `length` tokens of a sequence; a layer's are [2, 1, heads, capacity, size]."""

    def __init__(self) -> None:
        self.length = 0
        self.layers: dict[int, torch.Tensor] = {}

    def append(self, layer: int, new: "torch.Tensor") -> "Sequence[torch.Tensor]":
        """Append `new` [2, 1, heads, tokens, size]; return the layer's keys and values with it."""
        tokens = new.shape[3]
        buffer = self.layers.get(layer)
        if buffer is None or self.length + tokens > buffer.shape[3]:
            buffer = self.layers[layer] = self._grow(buffer, new)
        buffer.narrow(3, self.length, tokens).copy_(new)
        return buffer.narrow(3, 0, self.length + tokens).unbind()

    def _grow(self, buffer: "torch.Tensor | None", new: "torch.Tensor") -> "torch.Tensor":
        capacity = self.length + new.shape[3] + RESERVED_TOKENS
        larger = new.new_empty(*new.shape[:3], capacity, new.shape[4])
        if buffer is not None:
            larger[:, :, :, : self.length] = buffer[:, :, :, : self.length]
        return larger


class UnpaddedRunner(BaseUnpaddedRunner):
    """Runs sequences in torch, with an attention function that separates them."""

    cache_type = SequenceCache

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        register_attention(ATTENTION, _attend, causal=True)

    def _forward(self, new_tokens: Sequence[list[int]], caches: list[Any]) -> "torch.Tensor":
        import torch

        sizes = [len(tokens) for tokens in new_tokens]
        starts = [cache.length for cache in caches]
        positions = [torch.arange(start, start + size) for start, size in zip(starts, sizes, strict=True)]
        with attention_override(ATTENTION, self.model):
            logits: torch.Tensor = self.model(
                input_ids=torch.tensor([[id for tokens in new_tokens for id in tokens]]),
                position_ids=torch.cat(positions).unsqueeze(0),
                attention_mask=torch.ones(1, sum(sizes), dtype=torch.long),
                use_cache=False,
                logits_to_keep=torch.tensor(sizes).cumsum(0) - 1,
                cu_seq_lens_q=(sizes, caches),
            ).logits
        for cache, size in zip(caches, sizes, strict=True):
            cache.length += size
        return logits[0]


def try_unpadded_runner(model: Any) -> UnpaddedRunner | None:
    """Create a runner without padding; None on a GPU, or if its logits differ from the model's."""
    import torch

    tolerance = TOLERANCE.get(str(model.dtype))
    if model.device.type != "cpu" or tolerance is None or attention_implementation(model) != "sdpa":
        return None
    runner = UnpaddedRunner(model)
    try:
        with torch.inference_mode():
            check_against_torch(runner, model, tolerance)
    except Exception:  # the network's code does not support the runner
        return None
    return runner


def _attend(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    *,
    cu_seq_lens_q: tuple[list[int], list[SequenceCache]],
    scaling: float | None = None,
    dropout: float = 0.0,
    position_ids: Any = None,
    **options: Any,
) -> tuple["torch.Tensor", None]:
    """Compute each sequence's self-attention: of (1, heads, tokens, size), a (1, tokens, heads, size)."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    if attention_mask is not None or any(options.values()):
        raise NotImplementedError("its attention has options that are not supported")
    sizes, caches = cu_seq_lens_q
    is_grouped = query.shape[1] != key.shape[1]
    queries = torch.split(query, sizes, 2)
    keys_and_values = torch.split(torch.stack([key, value]), sizes, 3)
    outputs = []
    for size, cache, q, new in zip(sizes, caches, queries, keys_and_values, strict=True):
        keys, values = cache.append(module.layer_idx, new)
        outputs.append(
            scaled_dot_product_attention(
                q, keys, values, scale=scaling, is_causal=size > 1, enable_gqa=is_grouped
            )
        )
    return torch.cat(outputs, 2).transpose(1, 2), None
