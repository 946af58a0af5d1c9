"""The training loop, and batches of token ids."""

import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from starter_models.settings import Training
from starter_models.tokenization import PAD

LOG_EVERY = 250  # steps

logger = logging.getLogger(__name__)


def fit(model: torch.nn.Module, next_loss: Callable[[], torch.Tensor], training: Training) -> None:
    """Train for a fixed number of steps with AdamW; next_loss draws a batch and computes its loss."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.peak_rate, weight_decay=training.weight_decay, betas=(0.9, 0.98)
    )
    model.train()
    started_at, average = time.monotonic(), math.nan
    for step in range(training.steps):
        optimizer.param_groups[0]["lr"] = training.rate_at(step)
        loss = next_loss()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average = loss.item() if step == 0 else 0.98 * average + 0.02 * loss.item()
        if step % LOG_EVERY == 0 or step == training.steps - 1:
            elapsed = time.monotonic() - started_at
            logger.info("step %d/%d  loss %.4f  %.0f s", step + 1, training.steps, average, elapsed)
    model.eval()


def pad(rows: Sequence[Sequence[int]], value: int = PAD) -> torch.Tensor:
    """Stack rows of different lengths; shorter ones are padded at the end."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


class LengthBatches:
    """Sample batches of examples whose token ids have similar lengths, which saves padding."""

    def __init__(self, token_ids: Sequence[Sequence[int]], targets: Sequence[Any], size: int) -> None:
        examples = sorted(zip(token_ids, targets, strict=True), key=lambda example: len(example[0]))
        self._batches = [examples[start : start + size] for start in range(0, len(examples), size)]
        self._rng = random.Random(0)

    def sample(self) -> tuple[torch.Tensor, tuple[Any, ...]]:
        """Return the padded token ids and the targets of one batch."""
        token_ids, targets = zip(*self._rng.choice(self._batches), strict=True)
        return pad(token_ids), targets
