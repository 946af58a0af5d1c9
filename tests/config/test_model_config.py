"""Which checkpoint a config names, at which revision and for which engine."""

from pathlib import Path

import pytest

from deployments.config import yaml_file as config
from deployments.task import MODULES
from tests.config.test_yaml_file import ID, WRITER, write


def test_model_name_longer_than_a_file_name(tmp_path: Path) -> None:
    name = "a" * 300
    folder = write(tmp_path / "m", f"module_id: {ID}\nhf_model: {name}")
    assert config.read(folder).checkpoint(folder).name == name


def test_default_revision_applies_to_the_default_model_only() -> None:
    module_id = next(id for id, module in MODULES.items() if module.default_revision)
    default = config.parse({"module_id": module_id}, "here").checkpoint(None)
    assert default.revision
    assert default.pickle, "pinned by us, and maybe older than safetensors"
    assert config.parse({"module_id": module_id, "hf_model": "a/b"}, "here").checkpoint(None).revision is None
    assert not config.parse({"module_id": module_id, "hf_model": "a/b"}, "here").checkpoint(None).pickle


def test_checkpoint_in_the_folder_is_the_default(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", f"module_id: {ID}")
    (folder / "config.json").write_text("{}")
    assert config.read(folder).checkpoint(folder).name == str(folder)


@pytest.mark.parametrize("model", ["", "hf_model: inner", "hf_model: {}/inner"])
def test_local_checkpoint_has_no_revision(tmp_path: Path, model: str) -> None:
    folder = write(
        tmp_path / "m", f"module_id: {ID}\nhf_model_revision: 714eb0f\n{model.format(tmp_path / 'm')}"
    )
    for path in (folder, folder / "inner"):
        path.mkdir(exist_ok=True)
        (path / "config.json").write_text("{}")
    checkpoint = config.read(folder).checkpoint(folder)
    assert (Path(checkpoint.name).exists(), checkpoint.revision) == (True, None)


def test_config_selects_engine_and_options(tmp_path: Path) -> None:
    engine = "{name: vllm, options: {max_model_len: 512}}"
    checkpoint = config.read(write(tmp_path / "m", f"module_id: {WRITER}\nengine: {engine}")).checkpoint(None)
    assert (checkpoint.engine, checkpoint.engine_options) == ("vllm", {"max_model_len": 512})


@pytest.mark.parametrize("key", ["hf_model_revision", "hf_revision"])
def test_revision_has_two_names(key: str) -> None:
    parsed = config.parse({"module_id": ID, "hf_model": "a/b", key: "1234567"}, "here")
    assert parsed.checkpoint(None).revision == "1234567"
