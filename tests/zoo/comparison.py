"""Texts of every interesting length, and the comparison of a module's numbers with transformers' own."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from tests.zoo.tiny_configs import POSITIONS

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TOLERANCE = 1e-4  # of the largest number, for float32
HALF_TOLERANCE = 2e-2
TEXTS = ["I loved it.", "a", "Hello! How are you? My name is Anna.", "the lazy dog 😀 文字", "0123456789"]

Rows = list[torch.Tensor]


class Reference(NamedTuple):
    """Texts that transformers can read, its numbers for each of them alone, and the texts it fails on."""

    texts: list[str]
    rows: Rows
    failing: list[str]


def reference(run: Callable[[str], torch.Tensor], tokenizer: Any, limit: int) -> Reference:
    """Run short texts, one of `limit` tokens, and one that has a token more."""
    limit = min(limit, POSITIONS)  # some networks have no limit
    texts, rows, failing = [], [], []
    for text in [*TEXTS, text_of(tokenizer, limit), text_of(tokenizer, limit + 1)]:
        try:
            with torch.inference_mode():
                rows.append(run(text))
            texts.append(text)
        except (RuntimeError, IndexError):
            assert len(text) < limit, "only short texts may fail"
            failing.append(text)
    assert any(rows[0].shape != row.shape or not torch.allclose(rows[0], row) for row in rows), "all alike"
    return Reference(texts, rows, failing)


def text_of(tokenizer: Any, tokens: int) -> str:
    """Return a text that the tokenizer splits into this many tokens."""
    count = tokens - len(tokenizer("")["input_ids"])
    candidates = ("0" * count, " ".join("0" * count))  # digits are not merged
    return next(text for text in candidates if len(tokenizer(text)["input_ids"]) == tokens)


def ids_of(tokenizer: Any, text: str, limit: int) -> dict[str, torch.Tensor]:
    """Return the input that transformers makes of a text, truncated to `limit` tokens."""
    batch = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def compare(run: Callable[[Sequence[str]], Rows], expected: Reference, half: Reference | None = None) -> None:
    """Compare what a module answers with transformers' numbers: each text alone, and all in a batch.

    `half` are transformers' own numbers in a half dtype, whose errors a module may have as well.
    """
    texts = expected.texts
    error_of, allowed = (mean_error, HALF_TOLERANCE) if half else (relative_error, TOLERANCE)
    if half is not None:
        allowed += 8 * max(map(error_of, half.rows, expected.rows))
    together = run(texts)
    alone = [row for text in texts for row in run([text])]
    for rows in (alone, together, run(texts[::-1])[::-1]):
        errors = sorted(map(error_of, rows, expected.rows))
        # Rounding may send a token to another expert, which changes its whole text.
        error = errors[len(errors) // 2] if half else errors[-1]
        assert error <= allowed, f"differs from transformers by {error:.1e}"


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference, relative to the largest expected number."""
    assert actual.shape == expected.shape and expected.isfinite().all() and actual.isfinite().all()
    return float((actual.float() - expected.float()).abs().max() / expected.float().abs().max())


def mean_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the relative error of the whole row."""
    assert actual.shape == expected.shape and expected.isfinite().all() and actual.isfinite().all()
    return float((actual.float() - expected.float()).norm() / expected.float().norm())


def check_limit(run: Callable[[str], Any], tokenizer: Any, limit: int) -> None:
    """Check that a network reads no more than `limit` tokens, if that is fewer than its config has."""
    if limit >= POSITIONS:
        return
    try:
        with torch.inference_mode():
            run(text_of(tokenizer, limit + 1))
    except (IndexError, RuntimeError, ValueError):
        return
    raise AssertionError(f"the network reads more than {limit} tokens")
