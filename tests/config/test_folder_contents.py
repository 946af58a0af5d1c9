"""A folder serves its own checkpoint, the module's default model if it has no weights, or nothing."""

import os
from pathlib import Path

import pytest

from deployments.config import yaml_file as config
from deployments.config.errors import ConfigError
from tests.config.test_yaml_file import ID, write


@pytest.mark.parametrize(("files", "reason"), [
    (["adapter_config.json", "adapter_model.safetensors"], "merge it into its base model"),
    (["config.json", "model.safetensors", "adapter_config.json"], "adapters are not applied"),
    (["model.safetensors"], "model.safetensors has weights, and no config.json"),
    (["pytorch_model-00001-of-00002.bin"], "no config.json"),
    (["model.onnx"], "no config.json"),
    (["model-q4.gguf"], "GGUF"),
    (["checkpoint-500/config.json", "checkpoint-500/model.safetensors"], "hf_model: checkpoint-500"),
    (["checkpoint-500/model.safetensors"], "checkpoint-500/model.safetensors has weights"),
])  # fmt: skip
def test_another_model_is_not_served_in_its_place(tmp_path: Path, files: list[str], reason: str) -> None:
    folder = write(tmp_path / "m", f"module_id: {ID}")
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    with pytest.raises(ConfigError, match=reason):
        config.read(folder)


def test_a_folder_without_weights_serves_the_default_model(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", f"module_id: {ID}")
    (folder / "notes.txt").write_text("nothing")
    read = config.read(folder)
    assert read.checkpoint(folder).name == read.module.default_model


@pytest.mark.parametrize("name", ["config.json", "modules.json"])
def test_a_folder_with_a_description_serves_itself_even_if_it_is_unreadable(
    tmp_path: Path, name: str
) -> None:
    folder = write(tmp_path / "m", f"module_id: {ID}")
    os.symlink(tmp_path / "gone", folder / name)
    assert config.read(folder).checkpoint(folder).name == str(folder)


def test_a_named_model_needs_no_checkpoint_beside_its_config(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", f"module_id: {ID}\nhf_model: someone/model")
    (folder / "old.bin").write_text("")
    assert config.read(folder).checkpoint(folder).name == "someone/model"
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="adapters are not applied"):
        config.read(folder)
