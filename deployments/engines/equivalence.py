"""Comparison of an optimized network's outputs with torch's."""

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from deployments.engines.checkpoint import vocabulary_size
from deployments.generation.sequence_runner import SequenceRunner

if TYPE_CHECKING:
    import torch

TOLERANCE = {"torch.float32": 1e-5, "torch.bfloat16": 5e-2}
"""The relative error that torch's attention kernels may have, by the weights' dtype."""

PROMPTS = ([9, 5, 7, 3], [8, 2], [4, 6, 1])
"""Token ids of short prompts for the comparison of language models."""

UNKNOWN_VOCABULARY = 100  # ids that a network without a vocabulary accepts, such as one that reads characters


class OutputMismatch(Exception):
    """A network's outputs differ from torch's."""


def require_tolerance(error: float, tolerance: float) -> None:
    """Raise `OutputMismatch` if a `relative_error` exceeds the tolerance."""
    if error > tolerance:
        raise OutputMismatch(f"outputs differ by {error:.1e} of the largest number")


class ReferencePass(NamedTuple):
    """A batch, and the model's output for each of its texts alone."""

    batch: dict[str, "torch.Tensor"]
    output: "torch.Tensor"


def reference_pass(model: Any, lengths: Sequence[int]) -> ReferencePass:
    """Run the model on random token ids of these lengths, each text alone; the batch is padded on the right.

    If the outputs have a vector for each token, those of padding are zeros.
    """
    import torch

    config = model.config.get_text_config()
    size = int(min(getattr(config, "vocab_size", None) or UNKNOWN_VOCABULARY, vocabulary_size(model)))
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(size // 2, size, (length,), generator=generator) for length in lengths]
    special = (getattr(config, name, None) for name in ("eos_token_id", "pad_token_id"))
    end, pad_id = (id if id in range(size) else None for id in special)
    if end is not None:
        for text in texts:
            text[-1] = end  # BART and its relatives classify by it
    outputs = []
    for text in texts:
        ids = text.unsqueeze(0).to(model.device)
        outputs.append(model(input_ids=ids, attention_mask=torch.ones_like(ids))[0][0])
    batch = {
        "input_ids": _pad(texts, pad_id or 0).to(model.device),
        "attention_mask": _pad([torch.ones_like(text) for text in texts], 0).to(model.device),
    }
    return ReferencePass(batch, _pad(outputs, 0) if outputs[0].dim() == 2 else torch.stack(outputs))


def _pad(rows: "list[torch.Tensor]", value: int) -> "torch.Tensor":
    from torch.nn.utils.rnn import pad_sequence

    padded: torch.Tensor = pad_sequence(rows, batch_first=True, padding_value=value)
    return padded


def relative_error(
    output: "torch.Tensor", expected: "torch.Tensor", mask: "torch.Tensor | None" = None
) -> float:
    """Return the largest difference between two outputs, relative to the largest expected number.

    If the outputs have a vector for each token, `mask` is False for padding, which does not count.
    """
    if mask is not None and output.dim() == 3:
        output, expected = output[mask.bool()], expected[mask.bool()]
    error = (output - expected).abs().max() / expected.abs().max()
    return float(error.nan_to_num(nan=inf))


def check_against_torch(
    runner: SequenceRunner, model: Any, tolerance: float, prompts: Sequence[list[int]] = PROMPTS
) -> None:
    """Raise `OutputMismatch` if a runner's logits differ from the model's, in any type of pass."""
    import torch

    expected = torch.cat([model(torch.tensor([prompt])).logits[:, -1] for prompt in prompts])
    outputs = [prefill_then_decode(runner, prompts)]
    if runner.prefill_and_decode:
        outputs.append(_prefill_and_decode(runner, prompts))
    error = relative_error(torch.stack(outputs), expected.expand(len(outputs), *expected.shape))
    require_tolerance(error, tolerance)


def prefill_then_decode(runner: SequenceRunner, prompts: Sequence[list[int]]) -> "torch.Tensor":
    """Prefill the prompts without their last tokens, and run these in a decoding step: return its logits."""
    _, caches = runner.prefill([prompt[:-1] for prompt in prompts])
    runner.append(caches, list(range(len(prompts))))
    logits = runner.decode([prompt[-1] for prompt in prompts])
    runner.clear()
    return logits


def _prefill_and_decode(runner: SequenceRunner, prompts: Sequence[list[int]]) -> "torch.Tensor":
    """Prefill the first prompt in the same pass as the last tokens of the others."""
    assert runner.prefill_and_decode
    first, *others = prompts
    _, caches = runner.prefill([prompt[:-1] for prompt in others])
    runner.append(caches, list(range(len(others))))
    logits, _ = runner.prefill_and_decode([first], [prompt[-1] for prompt in others])
    runner.clear()
    return logits.roll(1, 0)
