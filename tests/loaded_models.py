"""Models to test with: the starter models of `models/`, and tiny random ones of architectures they lack."""

import asyncio
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import transformers
import yaml

import deployments.tasks  # noqa: F401  (registers the modules)
from deployments.engines.checkpoint import Checkpoint
from deployments.task import MODULES, Module

MODELS = Path(__file__).parents[1] / "models"

transformers.logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test loads is on this machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@cache
def starter(module_id: str) -> Module:
    """Return the starter model of a module, loaded; skips the test where there is none."""
    for config in sorted(MODELS.glob("*/config.yml")):
        if yaml.safe_load(config.read_text())["module_id"] == module_id:
            return loaded(module_id, config.parent)
    pytest.skip(f"no starter model for {MODULES[module_id].__name__}")


@cache
def loaded(module_id: str, folder: Path) -> Module:
    module = MODULES[module_id]()
    module.load(Checkpoint(str(folder)))
    return module


def answers(module: Module, inputs: list[Any], params: Any) -> list[Any]:
    """Run a module on inputs: in one batch, unless it schedules its own batches."""
    if module.batches_itself():
        outputs: list[Any] = asyncio.run(module.run(inputs, params))
        return outputs
    encoded = module.encode(inputs, params)
    return list(module.run([one.input for one in encoded], params))
