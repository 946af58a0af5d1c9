"""How a network becomes one of OpenVINO's, with its paged attention in the place of every attention.

transformers lets attention be one of ours; in a trace ours is an operation of torch that only has a name, and
OpenVINO's converter puts its own there.
"""

import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from deployments.engines.attention import implementation, register

if TYPE_CHECKING:
    import numpy as np
    import torch

TENSORS = 11  # that the operation is given, before its numbers


class Pages(NamedTuple):
    """What attention is told in a network that is traced: the places of a pass, and the layers' pools."""

    causal: bool
    places: tuple[Any, ...]
    pools: tuple[Any, ...]


def converted(
    model: Any,
    forward: Callable[..., Any],
    given: "Sequence[torch.Tensor]",
    places: "Sequence[np.ndarray[Any, Any]]",
    layers: int | None,
) -> Any:
    """OpenVINO's network of a `forward` as `paging.Paged` has it: for `given`, `places` and the pools."""
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
            own, rest = inputs[: len(given)], inputs[len(given) :]
            pages = Pages(causal, rest[: len(places)], rest[len(places) :])
            return forward(self.network, *own, cu_seq_lens_q=pages)

    name, usual = f"openvino_{'causal' if causal else 'bidirectional'}", implementation(network)
    register(name, _attend, causal=causal)
    network.set_attn_implementation(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's, of what transformers asks of shapes
            return openvino.convert_model(
                Traced().eval(),
                example_input=(*given, *map(torch.from_numpy, places), *pools),
                extension=[ConversionExtension("roster::paged_attention", _paged_attention)],
            )
    finally:
        network.set_attn_implementation(usual)


def _attend(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    *,
    cu_seq_lens_q: Pages | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_ids: Any = None,
    **others: Any,
) -> tuple["torch.Tensor", None]:
    """In a trace, attention of (1, heads, tokens, size): nothing but its place is computed."""
    if cu_seq_lens_q is None:
        raise NotImplementedError("its attention is not told what is in a pass")
    causal, places, pools = cu_seq_lens_q
    if attention_mask is not None or module.is_causal is not causal or any(others.values()):
        raise NotImplementedError("attention with more to it")
    layer = module.layer_idx if causal else 0
    heads, size = int(query.shape[1]), int(query.shape[3])
    kept = [int(number) for number in (key.shape[1], key.shape[3], value.shape[3])]
    flat = [part.transpose(1, 2).flatten(2).squeeze(0) for part in (query, key, value)]
    seen = _operation()(*flat, *pools[2 * layer :][:2], *places, scaling or size**-0.5, *kept)
    return seen.view(1, -1, heads, kept[-1]), None


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
    """The operation in the place of ours: its inputs as openvino/op/paged_attention.hpp orders them."""
    import numpy as np
    from openvino import Type, opset13
    from openvino.op import _PagedAttentionExtension

    def constant(value: Any, kind: Any) -> Any:
        return opset13.constant(np.array(value), kind).output(0)

    *cached, longest, token_types = (node.get_input(place) for place in range(TENSORS))
    scale, *kept = (node.get_values_from_const_input(place) for place in range(TENSORS, TENSORS + 4))
    zero, none, no_numbers = constant(0, Type.i32), constant([], Type.i32), constant([], Type.f32)
    operation = _PagedAttentionExtension(
        [
            *cached,
            constant(scale, Type.f32),
            zero,  # sliding_window
            no_numbers,  # alibi_slopes
            longest,
            none,  # score_aggregation_window
            *(none, none, no_numbers),  # rotated_block_indices, rotation_deltas, rotation_trig_lut
            *(no_numbers, zero, zero),  # xattention_threshold, xattention_block_size, xattention_stride
            no_numbers,  # sinks
            *(zero, none, none, none),  # adaptive_rkv: its start, evictable sizes, and diverse blocks
            token_types,
            *(constant([], Type.u8), none),  # qq_bias, qq_bias_begins
        ]
    )
    for name, number in zip(("num_k_heads", "k_head_size", "v_head_size"), kept, strict=True):
        operation.get_rt_info()[name] = int(number)
    operation.get_rt_info()["num_v_heads"] = int(kept[0])
    return [operation.output(0)]
