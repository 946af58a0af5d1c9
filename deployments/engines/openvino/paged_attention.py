"""Conversion of a torch network to OpenVINO, with OpenVINO's paged attention in all layers.

transformers accepts Roster's attention function. In a trace that is a torch operation that computes nothing,
and OpenVINO's converter replaces it.
"""

import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from deployments.engines.attention import attention_implementation, register_attention

if TYPE_CHECKING:
    import numpy as np
    import torch

TENSORS = 11  # the operation has these inputs before its numbers


class PagedAttentionInputs(NamedTuple):
    """The inputs of attention in a trace: indices of a pass's tokens and blocks, and the layers' pools."""

    causal: bool
    indices: tuple[Any, ...]
    pools: tuple[Any, ...]


def convert_network(
    model: Any,
    forward: Callable[..., Any],
    examples: "Sequence[torch.Tensor]",
    indices: "Sequence[np.ndarray[Any, Any]]",
    layers: int | None,
) -> Any:
    """Return OpenVINO's network for a `forward` of `PagedNetwork`.

    Its inputs are those of `examples` and `indices`, then the pools.
    """
    import openvino
    import torch
    from openvino.frontend.pytorch import ConversionExtension

    network = model if model.dtype == torch.float32 else deepcopy(model).float()
    causal = layers is not None
    pools = [torch.zeros(1, 1, 1, 1) for _ in range(2 * (layers or 1))]

    class Traced(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *inputs: torch.Tensor) -> Any:
            tokens, rest = inputs[: len(examples)], inputs[len(examples) :]
            paged = PagedAttentionInputs(causal, rest[: len(indices)], rest[len(indices) :])
            return forward(self.network, *tokens, cu_seq_lens_q=paged)

    name = f"openvino_{'causal' if causal else 'bidirectional'}"
    original = attention_implementation(network)
    register_attention(name, _attend, causal=causal)
    network.set_attn_implementation(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of transformers' conditions on shapes
            return openvino.convert_model(
                Traced().eval(),
                example_input=(*examples, *map(torch.from_numpy, indices), *pools),
                extension=[ConversionExtension("roster::paged_attention", _paged_attention)],
            )
    finally:
        network.set_attn_implementation(original)


def _attend(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    *,
    cu_seq_lens_q: PagedAttentionInputs | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_ids: Any = None,
    **options: Any,
) -> tuple["torch.Tensor", None]:
    """Mark the attention of (1, heads, tokens, size) in a trace, as (1, tokens, heads, size)."""
    if cu_seq_lens_q is None:
        raise NotImplementedError("it does not pass `cu_seq_lens_q` to its attention")
    causal, indices, pools = cu_seq_lens_q
    if attention_mask is not None or module.is_causal is not causal or any(options.values()):
        raise NotImplementedError("its attention has options that are not supported")
    layer = module.layer_idx if causal else 0
    heads, size = int(query.shape[1]), int(query.shape[3])
    cache_shape = [int(size) for size in (key.shape[1], key.shape[3], value.shape[3])]
    flat = [tensor.transpose(1, 2).flatten(2).squeeze(0) for tensor in (query, key, value)]
    layer_pools, scale = pools[2 * layer :][:2], scaling or size**-0.5
    output = _operation()(*flat, *layer_pools, *indices, scale, *cache_shape)
    return output.view(1, -1, heads, cache_shape[-1]), None


@cache
def _operation() -> Any:
    import torch
    from torch import Tensor

    @torch.library.custom_op("roster::paged_attention", mutates_args=())
    def paged_attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        past_lens: Tensor,
        subsequence_begins: Tensor,
        block_indices: Tensor,
        block_indices_begins: Tensor,
        max_context_len: Tensor,
        token_type_ids: Tensor,
        scale: float,
        heads: int,
        key_size: int,
        value_size: int,
    ) -> Tensor:
        return query.new_zeros(len(query), query.shape[1] // key_size * value_size)

    return paged_attention


def _paged_attention(node: Any) -> list[Any]:
    """Return OpenVINO's operation for Roster's; openvino/op/paged_attention.hpp has the order of inputs."""
    import numpy as np
    from openvino import Type, opset13
    from openvino.op import _PagedAttentionExtension

    def constant(value: Any, element_type: Any) -> Any:
        return opset13.constant(np.array(value), element_type).output(0)

    *tensors, max_context_len, token_type_ids = (node.get_input(index) for index in range(TENSORS))
    numbers = (node.get_values_from_const_input(index) for index in range(TENSORS, TENSORS + 4))
    scale, *cache_shape = numbers
    zero, no_ints, no_floats = constant(0, Type.i32), constant([], Type.i32), constant([], Type.f32)
    operation = _PagedAttentionExtension(
        [
            *tensors,
            constant(scale, Type.f32),
            zero,  # sliding_window
            no_floats,  # alibi_slopes
            max_context_len,
            no_ints,  # score_aggregation_window
            *(no_ints, no_ints, no_floats),  # rotated_block_indices, rotation_deltas, rotation_trig_lut
            *(no_floats, zero, zero),  # xattention_threshold, xattention_block_size, xattention_stride
            no_floats,  # sinks
            *(zero, no_ints, no_ints, no_ints),  # adaptive_rkv: start, evictable sizes, and diverse blocks
            token_type_ids,
            *(constant([], Type.u8), no_ints),  # qq_bias, qq_bias_begins
        ]
    )
    for name, size in zip(("num_k_heads", "k_head_size", "v_head_size"), cache_shape, strict=True):
        operation.get_rt_info()[name] = int(size)
    operation.get_rt_info()["num_v_heads"] = int(cache_shape[0])
    return [operation.output(0)]
