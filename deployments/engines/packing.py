"""Padded batches as one row of tokens: the common part of all encoder engines."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from deployments.engines.equivalence import reference_pass, relative_error, require_tolerance

if TYPE_CHECKING:
    import torch

PACKED_PADDING = 1 / 32  # cost of a padded token relative to a real one: it is only written and read once
PROBE_LENGTHS = (9, 2, 5, 9)  # tokens of the texts that compare a packed network with the original

LengthGroups = Sequence[tuple[int, int]]  # (number of texts, length) of consecutive texts of one length


def install_packed_forward(
    model: Any,
    create: Callable[[], Callable[..., Any]],
    probes: Sequence[Sequence[int]],
    tolerance: float,
) -> None:
    """Replace the base model's `forward` by one that runs a batch's texts in one row.

    The callable that `create` returns takes `input_ids` and `position_ids` [1, tokens], and `LengthGroups` as
    `cu_seq_lens_q`. `probes` are lengths of texts for the comparison with the original network. Raises
    `OutputMismatch` if the outputs differ, or any error of `create`, and then leaves `forward` unchanged.
    """
    import torch

    with torch.inference_mode():
        references = [reference_pass(model, lengths) for lengths in probes]
        run = create()
        base, original = model.base_model, model.base_model.forward
        errors: dict[Any, float] = {}
        for first_position in (0, (model.config.pad_token_id or 0) + 1):  # RoBERTa starts after the pad id
            packed = base.forward = _packed_forward(base, run, first_position)
            try:
                errors[packed] = max(
                    relative_error(model(**batch)[0], output, batch["attention_mask"])
                    for batch, output in references
                )
            except IndexError:  # there are no such positions
                continue
            finally:
                base.forward = original
        best = min(errors, key=errors.__getitem__)
        require_tolerance(errors[best], tolerance)
        base.forward = best


def _packed_forward(base: Any, run: Callable[..., Any], first_position: int) -> Any:
    """Return a `forward` for a network that runs a batch's texts in one row, shortest first."""
    import numpy as np
    import torch

    def forward(input_ids: "torch.Tensor", attention_mask: "torch.Tensor", **kwargs: Any) -> Any:
        # numpy computes the indices: for many small steps torch takes several times as long.
        mask = attention_mask.numpy().astype(bool)
        order = mask.sum(1).argsort(kind="stable")
        lengths = mask.sum(1)[order]
        starts = lengths.cumsum() - lengths
        texts, columns = mask[order].nonzero()
        sources = order[texts] * mask.shape[1] + columns  # of each packed token, in the flattened batch
        packed_indices = np.arange(len(sources))
        targets = starts[order.argsort()].repeat(mask.shape[1])  # padding takes its text's first token
        targets[sources] = packed_indices
        packed = {
            name: value.flatten()[torch.from_numpy(sources)].unsqueeze(0)
            if isinstance(value, torch.Tensor)
            else value
            for name, value in {**kwargs, "input_ids": input_ids}.items()
        }
        positions = packed_indices - starts[texts] + first_position
        packed["position_ids"] = torch.from_numpy(positions).unsqueeze(0)
        length_groups = [(len([*group]), length) for length, group in groupby(lengths.tolist())]
        outputs = run(**packed, cu_seq_lens_q=length_groups)
        states = outputs.last_hidden_state[0]
        outputs.last_hidden_state = states[torch.from_numpy(targets)].view(*input_ids.shape, -1)
        if getattr(outputs, "pooler_output", None) is not None:
            outputs.pooler_output = base.pooler(outputs.last_hidden_state)
        return outputs

    return forward
