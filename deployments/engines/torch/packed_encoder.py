"""Texts of any lengths as one row of an encoder, so that the CPU computes no padding."""

from typing import TYPE_CHECKING, Any

from deployments.engines.attention import attention_implementation, register_attention
from deployments.engines.equivalence import TOLERANCE, ReferencePass, reference_pass
from deployments.engines.load_failures import cannot_run
from deployments.engines.packing import PACKED_PADDING, PROBE_LENGTHS, LengthGroups, install_packed_forward
from deployments.engines.torch.equal_lengths import (
    LONGEST_TOO_SHORT,
    padding_changes_outputs,
    run_equal_lengths,
)

if TYPE_CHECKING:
    import torch

ATTENTION = "packed"
LONG_PROBE_LENGTHS = (40, 24, 33, 40)


def prepare(model: Any) -> float:
    """Make a text encoder run padded batches as it runs each text alone; its outputs stay padded.

    Returns the cost of a padded token relative to a real one. Raises `ModelNotReady` if the network cannot
    run at all, as some cannot in half precision.
    """
    import torch

    with torch.inference_mode():
        reference = _reference(model)
    cost = pack(model)
    if cost == 1.0:
        with torch.inference_mode():
            if padding_changes_outputs(model, reference):
                reads_short_texts = reference.batch["input_ids"].shape[1] == max(PROBE_LENGTHS)
                return run_equal_lengths(model, 0 if reads_short_texts else LONGEST_TOO_SHORT)
    return cost


def _reference(model: Any) -> ReferencePass:
    """Run short texts, or longer ones if the network cannot read those."""
    try:
        return reference_pass(model, PROBE_LENGTHS)
    except Exception as error:
        try:
            return reference_pass(model, LONG_PROBE_LENGTHS)
        except Exception:
            raise cannot_run(model, error) from error


def pack(model: Any) -> float:
    """Make a text encoder run padded batches without computing the padding; its outputs stay padded.

    Returns the cost of a padded token relative to a real one. It is 1.0, and the model stays unchanged, on a
    GPU, where many small steps take longer than padding, and for a network whose outputs would differ from
    torch's because its tokens do not attend to exactly their whole text.
    """
    attention, tolerance = attention_implementation(model), TOLERANCE.get(str(model.dtype))
    if model.device.type != "cpu" or tolerance is None or attention != "sdpa":
        return 1.0
    try:
        install_packed_forward(model, lambda: _forward_with_attention(model), [PROBE_LENGTHS], tolerance)
    except Exception:  # the network's code does not support packing
        model.set_attn_implementation(attention)
        return 1.0
    return PACKED_PADDING


def _forward_with_attention(model: Any) -> Any:
    """Return the network's forward pass, with attention that separates the texts of a row."""
    register_attention(ATTENTION, _attend, causal=False)
    model.set_attn_implementation(ATTENTION)
    return model.base_model.forward


def _attend(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    *,
    cu_seq_lens_q: LengthGroups,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_ids: Any = None,
    **options: Any,
) -> tuple["torch.Tensor", None]:
    """Compute each text's attention to itself: of (1, heads, tokens, size), a (1, tokens, heads, size)."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    if attention_mask is not None or module.is_causal or any(options.values()):
        raise NotImplementedError("its attention has options that are not supported")
    start, outputs = 0, []
    for count, length in cu_seq_lens_q:
        end = start + count * length
        q, k, v = (
            tensor[0, :, start:end].view(-1, count, length, tensor.shape[-1]).transpose(0, 1)
            for tensor in (query, key, value)
        )
        states = scaled_dot_product_attention(q, k, v, scale=scaling)
        outputs.append(states.transpose(1, 2).flatten(0, 1))
        start = end
    return torch.cat(outputs).unsqueeze(0), None
