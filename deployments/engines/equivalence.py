"""Whether a network that runs in another way gives torch's answers."""

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from deployments.generation.sequence_runner import SequenceRunner

if TYPE_CHECKING:
    import torch

TOLERANCE = {"torch.float32": 1e-5, "torch.bfloat16": 5e-2}
"""By how much torch's own answers may differ, as a part of the largest number, by the weights' dtype."""

ROWS = ([9, 5, 7, 3], [8, 2], [4, 6, 1])
"""Token ids of short sequences to try a language model with."""


class DifferentAnswers(Exception):
    """A network's answers are not torch's."""


def require_same(found: float, tolerance: float) -> None:
    """Raise `DifferentAnswers` where a `difference` is larger than the tolerance."""
    if found > tolerance:
        raise DifferentAnswers(f"answers differ by {found:.1e} of the largest number")


class Trial(NamedTuple):
    """A batch, and the model's answer to it."""

    batch: dict[str, "torch.Tensor"]
    answer: "torch.Tensor"


def trial(model: Any, lengths: Sequence[int]) -> Trial:
    """Return a batch of made-up texts of these lengths, padded on the right, and the model's answer to it."""
    import torch

    config = model.config
    generator = torch.Generator().manual_seed(0)
    shape = len(lengths), max(lengths)
    ids = torch.randint(config.vocab_size // 2, config.vocab_size, shape, generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    batch = {"input_ids": ids.where(mask, config.pad_token_id or 0), "attention_mask": mask.long()}
    return Trial(batch, model(**batch)[0])


def difference(found: "torch.Tensor", expected: "torch.Tensor", mask: "torch.Tensor | None" = None) -> float:
    """Return how far apart two outputs of a network are at most, as a part of the largest number.

    Where the outputs have a vector for each token, `mask` says which tokens are no padding.
    """
    if mask is not None and found.dim() == 3:
        found, expected = found[mask.bool()], expected[mask.bool()]
    apart = (found - expected).abs().max() / expected.abs().max()
    return float(apart.nan_to_num(nan=inf))


def rows_difference(runner: SequenceRunner, model: Any, rows: Sequence[list[int]] = ROWS) -> float:
    """Return how far the logits of a runner's rows are from the model's own, in each kind of pass."""
    import torch

    expected = torch.cat([model(torch.tensor([row])).logits[:, -1] for row in rows])
    found = [_read_and_step(runner, rows)]
    if runner.read_beside_step:
        found.append(_read_beside_step(runner, rows))
    return difference(torch.stack(found), expected.expand(len(found), *expected.shape))


def _read_and_step(runner: SequenceRunner, rows: Sequence[list[int]]) -> "torch.Tensor":
    """Read the rows but for their last tokens, and these in a step."""
    _, read = runner.read([row[:-1] for row in rows])
    runner.join(read, list(range(len(rows))))
    logits = runner.step([row[-1] for row in rows])
    runner.clear()
    return logits


def _read_beside_step(runner: SequenceRunner, rows: Sequence[list[int]]) -> "torch.Tensor":
    """Read the first row beside the last tokens of the others."""
    assert runner.read_beside_step
    first, *others = rows
    _, read = runner.read([row[:-1] for row in others])
    runner.join(read, list(range(len(others))))
    logits, _ = runner.read_beside_step([first], [row[-1] for row in others])
    runner.clear()
    return logits.roll(1, 0)
