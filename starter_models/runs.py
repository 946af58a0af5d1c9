"""The work of one worker process: train and measure, or only measure, one starter model."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path

import transformers

from starter_models.training import (
    Score,
    Starter,
    discover,
    fix_seed,
    publish,
    save,
    score_table,
    write_card,
)


def train_one(name: str) -> str:
    """Trains one model and, once it is measured, puts its folder under models/."""
    starter, started = prepare(name), time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        save(starter, starter.train(), folder)
        scores = measured(starter, folder)
        write_card(starter, scores, folder)
        publish(folder, starter.folder)
    return f"{report(name, scores)}\n({time.monotonic() - started:.0f} s in all)"


def measure_one(name: str) -> str:
    """Reloads one model from its folder and reports its scores."""
    starter = prepare(name)
    return report(name, measured(starter, starter.folder))


def prepare(name: str) -> Starter:
    """Makes the worker ready for one model."""
    announce(name)
    fix_seed()
    return discover()[name]


def measured(starter: Starter, folder: Path) -> list[Score]:
    """The scores of a folder, the same whenever it is measured."""
    fix_seed()
    return starter.evaluate(folder)


def report(name: str, scores: list[Score]) -> str:
    """What is printed of a model."""
    return f"\n{name}\n{score_table(scores)}"


def announce(name: str) -> None:
    """Puts the model's name before every line that this process prints."""
    logging.basicConfig(format=f"{name:20} %(message)s", level=logging.WARNING)
    logging.getLogger("starter_models").setLevel(logging.INFO)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
