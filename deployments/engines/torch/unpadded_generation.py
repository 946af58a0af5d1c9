"""Running rows without padding: all their tokens one after another, and each row's keys and values apart.

A pass may read the prompts of some rows and the next tokens of others. On a processor, where what is not
padded is not computed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deployments.engines.attention import implementation, register, used_for_one_pass
from deployments.engines.equivalence import TOLERANCE, require_same, rows_difference
from deployments.engines.unpadded_rows import UnpaddedRows

if TYPE_CHECKING:
    import torch

NAME = "ragged"
AHEAD = 64  # tokens for which there is room at once


class Kept:
    """The keys and values of a row, `length` tokens of each layer: [2, 1, heads, room, size]."""

    def __init__(self) -> None:
        self.length = 0
        self.layers: dict[int, torch.Tensor] = {}

    def add(self, layer: int, new: "torch.Tensor") -> "Sequence[torch.Tensor]":
        """Write `new` [2, 1, heads, tokens, size] after the others; returns all keys, and all values."""
        size = new.shape[3]
        room = self.layers.get(layer)
        if room is None or self.length + size > room.shape[3]:
            room = self.layers[layer] = self._larger(room, new)
        room.narrow(3, self.length, size).copy_(new)
        return room.narrow(3, 0, self.length + size).unbind()

    def _larger(self, room: "torch.Tensor | None", new: "torch.Tensor") -> "torch.Tensor":
        larger = new.new_empty(*new.shape[:3], self.length + new.shape[3] + AHEAD, new.shape[4])
        if room is not None:
            larger[:, :, :, : self.length] = room[:, :, :, : self.length]
        return larger


class Ragged(UnpaddedRows):
    """Runs rows in torch, with an attention function that keeps them apart."""

    kept = Kept

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        register(NAME, _attend, causal=True)

    def _forward(self, rows: Sequence[list[int]], kept: list[Any]) -> "torch.Tensor":
        import torch

        sizes = [len(new) for new in rows]
        starts = [one.length for one in kept]
        positions = [torch.arange(start, start + size) for start, size in zip(starts, sizes, strict=True)]
        with used_for_one_pass(NAME, self.model):
            logits: torch.Tensor = self.model(
                input_ids=torch.tensor([[id for new in rows for id in new]]),
                position_ids=torch.cat(positions).unsqueeze(0),
                attention_mask=torch.ones(1, sum(sizes), dtype=torch.long),
                use_cache=False,
                logits_to_keep=torch.tensor(sizes).cumsum(0) - 1,
                cu_seq_lens_q=(sizes, kept),
            ).logits
        for one, size in zip(kept, sizes, strict=True):
            one.length += size
        return logits[0]


def ragged(model: Any) -> Ragged | None:
    """Run the model's rows without padding, where the answers are the same; on a processor only."""
    import torch

    tolerance = TOLERANCE.get(str(model.dtype))
    if model.device.type != "cpu" or tolerance is None or implementation(model) != "sdpa":
        return None
    network = Ragged(model)
    try:
        with torch.inference_mode():
            require_same(rows_difference(network, model), tolerance)
    except Exception:  # a network that was written differently
        return None
    return network


def _attend(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    *,
    cu_seq_lens_q: tuple[list[int], list[Kept]],
    scaling: float | None = None,
    dropout: float = 0.0,
    position_ids: Any = None,
    **others: Any,
) -> tuple["torch.Tensor", None]:
    """Compute each row's attention to itself: of (1, heads, tokens, size), a (1, tokens, heads, size)."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    if attention_mask is not None or any(others.values()):
        raise NotImplementedError("attention with more to it")
    sizes, kept = cu_seq_lens_q
    many = query.shape[1] != key.shape[1]
    parts = zip(
        sizes,
        kept,
        torch.split(query, sizes, 2),
        torch.split(torch.stack([key, value]), sizes, 3),
        strict=True,
    )
    seen = []
    for size, one, q, new in parts:
        keys, values = one.add(module.layer_idx, new)
        seen.append(
            scaled_dot_product_attention(q, keys, values, scale=scaling, is_causal=size > 1, enable_gqa=many)
        )
    return torch.cat(seen, 2).transpose(1, 2), None
