"""Padded batches as one row of tokens: what every engine of text encoders has in common."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from deployments.engines.equivalence import difference, require_same, trial

if TYPE_CHECKING:
    import torch

PACKED_PADDING = 1 / 32  # what a padded token costs then, beside a real one: it is written and read once
PROBE = (9, 2, 5, 9)  # tokens of the texts to try with

Groups = Sequence[tuple[int, int]]  # texts of one length that follow one another: how many, and the length


def install_packed(
    model: Any, make: Callable[[], Callable[..., Any]], probes: Sequence[Sequence[int]], tolerance: float
) -> None:
    """Let what `make` makes run texts in one row, in the place of the base model's `forward`.

    It takes `input_ids` and `position_ids` [1, tokens], and as `cu_seq_lens_q` the `Groups`. `probes` are
    lengths of texts to try it with. Raises `DifferentAnswers` if its answers are not torch's, or what `make`
    raises; the model's `forward` is then the one that it was.
    """
    import torch

    with torch.inference_mode():
        trials = [trial(model, lengths) for lengths in probes]
        run = make()
        base, before = model.base_model, model.base_model.forward
        differences: dict[Any, float] = {}
        for first in (0, (model.config.pad_token_id or 0) + 1):  # RoBERTa's kin count from there
            packed = base.forward = _packed(base, run, first)
            try:
                differences[packed] = max(
                    difference(model(**batch)[0], answer, batch["attention_mask"]) for batch, answer in trials
                )
            except IndexError:  # there are no such positions
                continue
            finally:
                base.forward = before
        nearest = min(differences, key=differences.__getitem__)
        require_same(differences[nearest], tolerance)
        base.forward = nearest


def _packed(base: Any, run: Callable[..., Any], first: int) -> Any:
    """Make the network's `forward` for texts in one row; `first` is the position of a text's first token."""
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
