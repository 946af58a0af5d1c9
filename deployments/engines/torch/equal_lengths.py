"""Encoders whose outputs change with padding: texts share a pass only with texts of their own length.

Fourier transforms, convolutions, landmarks and the last token of a row are computed over padding as well.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deployments.engines.equivalence import ReferencePass, relative_error
from deployments.errors import InvalidInput, out_of_memory

if TYPE_CHECKING:
    import torch

NEVER_PAD = 1e9  # the cost of a padded token relative to a real one: no other pass costs as much
# The relative error of rounding, which is all that padding may cause, by the type of the weights.
TOLERANCE = {"torch.float32": 1e-4, "torch.float16": 5e-3, "torch.bfloat16": 3e-2}
LONGEST_TOO_SHORT = 16  # tokens of a text that may be too short for a network


def padding_changes_outputs(model: Any, reference: ReferencePass) -> bool:
    """Return whether the model's outputs for a padded batch differ from those for its texts alone."""
    batch, expected = reference
    config = model.config.get_text_config()
    own = getattr(config, "pad_token_id", None)
    config.pad_token_id = max(own or 0, 0)  # a decoder that classifies refuses a batch without one
    try:
        error = relative_error(model(**batch)[0], expected, batch["attention_mask"])
    except Exception:  # it cannot run a padded batch
        return True
    finally:
        config.pad_token_id = own
    return error > TOLERANCE.get(str(model.dtype), 0.0)


def run_equal_lengths(model: Any, longest_too_short: int = 0) -> float:
    """Make the model run a padded batch as one pass for each length, without padding.

    A text of up to `longest_too_short` tokens that fails is refused: the network may need more tokens.
    Returns the cost of a padded token relative to a real one.
    """
    forward = model.forward

    def run(attention_mask: "torch.Tensor", **inputs: Any) -> Any:
        groups = defaultdict(list)
        for index, length in enumerate(attention_mask.sum(1).tolist()):
            groups[length].append(index)
        rows = [(indices, attention_mask[indices].bool()) for indices in groups.values()]
        outputs = [
            _forward(forward, inputs, indices, mask, length <= longest_too_short)
            for length, (indices, mask) in zip(groups, rows, strict=True)
        ]
        return _merge(outputs, rows, attention_mask)

    model.forward = run
    return NEVER_PAD


def _forward(
    forward: Callable[..., Any],
    inputs: dict[str, Any],
    indices: list[int],
    mask: "torch.Tensor",
    may_be_too_short: bool,
) -> Any:
    """Run the texts at `indices`, all of one length. Raises `InvalidInput` for texts that are too short."""
    import torch

    length = int(mask[0].sum())
    unpadded = {
        name: value[indices][mask].view(len(indices), length) if isinstance(value, torch.Tensor) else value
        for name, value in inputs.items()
    }
    try:
        return forward(**unpadded, attention_mask=torch.ones_like(unpadded["input_ids"]))
    except (RuntimeError, IndexError) as error:  # networks that shorten a text need some tokens
        if out_of_memory(error) or not may_be_too_short:
            raise
        raise InvalidInput(f"a text of {length} tokens is too short for this model") from error


def _merge(outputs: list[Any], rows: "list[tuple[list[int], torch.Tensor]]", mask: "torch.Tensor") -> Any:
    """Return the first output of each pass, in the rows of the padded batch."""
    merged = outputs[0]
    name, first = next(iter(merged.items()))
    per_token = first.dim() == 3
    whole = first.new_zeros(
        *(mask.shape if per_token else mask.shape[:1]), *first.shape[2 if per_token else 1 :]
    )
    for output, (indices, real) in zip(outputs, rows, strict=True):
        if per_token:
            part = whole.new_zeros(len(indices), *whole.shape[1:])
            part[real] = output[name].flatten(0, 1)
            whole[indices] = part
        else:
            whole[indices] = output[name]
    return type(merged)({name: whole})
