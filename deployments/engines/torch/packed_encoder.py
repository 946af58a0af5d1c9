"""Texts of any lengths as one row through a network: on a processor, what is not padded is not computed."""

from typing import TYPE_CHECKING, Any

from deployments.engines.attention import implementation, register
from deployments.engines.equivalence import TOLERANCE
from deployments.engines.packing import PACKED_PADDING, PROBE, Groups, install_packed

if TYPE_CHECKING:
    import torch

NAME = "packed"


def pack(model: Any) -> float:
    """Let a text encoder run padded batches as if they had no padding; its outputs are padded as before.

    Returns what a padded token costs from now on, beside a real one. That is as much as before, and nothing
    changes, on a GPU, where many small steps take longer than padding, and where the answers would differ
    from torch's: where a token does not simply see all of its text.
    """
    attention, tolerance = implementation(model), TOLERANCE.get(str(model.dtype))
    if model.device.type != "cpu" or tolerance is None or attention != "sdpa":
        return 1.0
    try:
        install_packed(model, lambda: _own_forward(model), [PROBE], tolerance)
    except Exception:  # a network that was written differently
        model.set_attn_implementation(attention)
        return 1.0
    return PACKED_PADDING


def _own_forward(model: Any) -> Any:
    """Return the network's own forward pass, in which each text's tokens now see their text alone."""
    register(NAME, _attend, causal=False)
    model.set_attn_implementation(NAME)
    return model.base_model.forward


def _attend(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    *,
    cu_seq_lens_q: Groups,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_ids: Any = None,
    **others: Any,
) -> tuple["torch.Tensor", None]:
    """Compute each text's attention to itself: of (1, heads, tokens, size), a (1, tokens, heads, size)."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    if attention_mask is not None or module.is_causal or any(others.values()):
        raise NotImplementedError("attention with more to it")
    begin, seen = 0, []
    for count, length in cu_seq_lens_q:
        end = begin + count * length
        q, k, v = (
            part[0, :, begin:end].view(-1, count, length, part.shape[-1]).transpose(0, 1)
            for part in (query, key, value)
        )
        states = scaled_dot_product_attention(q, k, v, scale=scaling)
        seen.append(states.transpose(1, 2).flatten(0, 1))
        begin = end
    return torch.cat(seen).unsqueeze(0), None
