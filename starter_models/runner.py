"""Train, evaluate and publish one starter model in a worker process."""

import importlib
import logging
import pkgutil
import shutil
import tempfile
import time
from pathlib import Path
from types import ModuleType

import torch
import transformers

from starter_models import tasks
from starter_models.checkpoint import save_checkpoint, write_card
from starter_models.evaluation import Score, format_scores

MODELS_FOLDER = Path(__file__).resolve().parent.parent / "models"


def starter_names() -> list[str]:
    """List the starter models: every module in tasks/ trains one."""
    return [module.name for module in pkgutil.iter_modules(tasks.__path__)]


def train_and_publish(name: str) -> str:
    """Train one model, evaluate it and replace its folder under models/."""
    task, started_at = load_task(name), time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / name
        save_checkpoint(task.train(), folder)
        scores = evaluate(task, folder)
        write_card(name, scores, folder)
        shutil.rmtree(MODELS_FOLDER / name, ignore_errors=True)
        shutil.copytree(folder, MODELS_FOLDER / name)
    return f"\n{name}\n{format_scores(scores)}\n({time.monotonic() - started_at:.0f} s in all)"


def evaluate_committed(name: str) -> str:
    """Evaluate the committed checkpoint of one model."""
    return f"\n{name}\n{format_scores(evaluate(load_task(name), MODELS_FOLDER / name))}"


def load_task(name: str) -> ModuleType:
    """Import the module of one starter model, seed torch and configure logging."""
    logging.basicConfig(format=f"{name:20} %(message)s", level=logging.WARNING)
    logging.getLogger("starter_models").setLevel(logging.INFO)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.manual_seed(0)  # for weights and dropout; the data generators have random generators of their own
    return importlib.import_module(f"{tasks.__name__}.{name}")


def evaluate(task: ModuleType, folder: Path) -> list[Score]:
    """Evaluate a checkpoint folder; repeated calls return the same scores."""
    torch.manual_seed(0)
    return list(task.evaluate(folder))
