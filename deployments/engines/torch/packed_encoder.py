"""Texts of any lengths as one row through a network: on a processor, what is not padded is not computed."""

from collections.abc import Callable, Sequence
from itertools import groupby
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

NAME = "packed"
PACKED_PADDING = 1 / 32  # what a padded token costs then, beside a real one: it is written and read once
PROBE = (9, 2, 5, 9)  # tokens of the texts to try with
TOLERANCE = {"torch.float32": 1e-5, "torch.bfloat16": 5e-2}  # of the largest number, by the weights' dtype

Groups = Sequence[tuple[int, int]]  # texts of one length that follow one another: how many, and the length


def pack(model: Any) -> float:
    """Let a text encoder run padded batches as if they had no padding; its outputs are padded as before.

    Tells what a padded token costs from now on, beside a real one. As much, for nothing is changed, on a GPU,
    where many small steps take longer than padding, and where answers would be others: where a token does not
    simply see all of its text.
    """
    import torch

    attention, tolerance = model.config._attn_implementation, TOLERANCE.get(str(model.dtype))
    if model.device.type != "cpu" or tolerance is None or attention != "sdpa":
        return 1.0
    with torch.inference_mode():
        try:
            tried = trial(model, PROBE)
            register(NAME, _attend, "bidirectional_mask_function")
            model.set_attn_implementation(NAME)
            if run_packed(model, model.base_model.forward, [tried], tolerance):
                return PACKED_PADDING
        except Exception:  # a network that was written otherwise
            pass
    model.set_attn_implementation(attention)
    return 1.0


class Trial(NamedTuple):
    """A batch, and the model's answer to it."""

    batch: dict[str, "torch.Tensor"]
    answer: "torch.Tensor"


def trial(model: Any, lengths: Sequence[int]) -> Trial:
    """The model's answer to a batch of made-up texts of these lengths."""
    batch = probe(model.config, lengths)
    return Trial(batch, model(**batch)[0])


def run_packed(model: Any, run: Callable[..., Any], trials: Sequence[Trial], tolerance: float) -> bool:
    """Let `run`, in the place of the base model's `forward`, run texts in one row, if answers stay the same.

    It is given `input_ids` and `position_ids` [1, tokens], and as `cu_seq_lens_q` the `Groups`.
    """
    base, before = model.base_model, model.base_model.forward
    far: dict[Any, float] = {}
    for first in (0, (model.config.pad_token_id or 0) + 1):  # RoBERTa's kin count from there
        packed = base.forward = _packed(base, run, first)
        try:
            far[packed] = max(
                difference(model(**batch)[0], answer, batch["attention_mask"]) for batch, answer in trials
            )
        except IndexError:  # there are no such positions
            continue
        finally:
            base.forward = before
    nearest = min(far, key=far.__getitem__, default=None)
    if nearest is None or far[nearest] > tolerance:
        return False
    base.forward = nearest
    return True


def _packed(base: Any, run: Callable[..., Any], first: int) -> Any:
    """The network's `forward`, with its texts in one row; `first` is the position of a text's first token."""
    import numpy as np
    import torch

    def forward(input_ids: "torch.Tensor", attention_mask: "torch.Tensor", **given: Any) -> Any:
        # The places in numpy: these are many small steps, and torch takes a multiple of the time for each.
        mask = attention_mask.numpy().astype(bool)
        order = mask.sum(1).argsort(kind="stable")
        lengths = mask.sum(1)[order]
        begins = lengths.cumsum() - lengths
        texts, columns = mask[order].nonzero()
        kept = order[texts] * mask.shape[1] + columns
        row = np.arange(len(kept))
        places = begins[order.argsort()].repeat(mask.shape[1])  # in the row; of padding, its text's first
        places[kept] = row
        rows = {
            name: value.flatten()[torch.from_numpy(kept)].unsqueeze(0)
            if isinstance(value, torch.Tensor)
            else value
            for name, value in {**given, "input_ids": input_ids}.items()
        }
        rows["position_ids"] = torch.from_numpy(row - begins[texts] + first).unsqueeze(0)
        groups = [(len([*same]), length) for length, same in groupby(lengths.tolist())]
        outputs = run(**rows, cu_seq_lens_q=groups)
        states = outputs.last_hidden_state[0]
        outputs.last_hidden_state = states[torch.from_numpy(places)].view(*input_ids.shape, -1)
        if getattr(outputs, "pooler_output", None) is not None:
            outputs.pooler_output = base.pooler(outputs.last_hidden_state)
        return outputs

    return forward


def register(name: str, attend: Callable[..., Any], seen: str) -> None:
    """Tell transformers of an attention, and of the mask that it needs: none, where tokens see what is usual.

    `seen` names transformers' own function of what is usual; a network that wants another mask raises.
    """
    from transformers import AttentionInterface, AttentionMaskInterface, masking_utils

    usual = getattr(masking_utils, seen)

    def mask(*_: Any, mask_function: Any, **__: Any) -> None:
        if mask_function is not usual:
            raise NotImplementedError("tokens that see more, or less")

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, mask)


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
    """Each text's attention to itself: of (1, heads, tokens, size), a (1, tokens, heads, size)."""
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


def probe(config: Any, lengths: Sequence[int]) -> dict[str, "torch.Tensor"]:
    """A batch of made-up texts, padded on the right, to try a network with."""
    import torch

    generator = torch.Generator().manual_seed(0)
    shape = len(lengths), max(lengths)
    ids = torch.randint(config.vocab_size // 2, config.vocab_size, shape, generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    return {"input_ids": ids.where(mask, config.pad_token_id or 0), "attention_mask": mask.long()}


def difference(found: "torch.Tensor", expected: "torch.Tensor", mask: "torch.Tensor") -> float:
    """How far apart two outputs of a network are at most, as a part of the largest number."""
    if found.dim() == 3:  # of every token: what padding has become does not matter
        found, expected = found[mask.bool()], expected[mask.bool()]
    apart = (found - expected).abs().max() / expected.abs().max()
    return float(apart.nan_to_num(nan=inf))
