"""The committed starter models: the files in their folders."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from PIL import Image
from safetensors import safe_open

from starter_models.checkpoint import write_card
from starter_models.evaluation import Score
from starter_models.runner import MODELS_FOLDER, starter_names
from starter_models.templates import load_data

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("default"),  # transformers and torch warn about themselves
]

MEGABYTE = 1_000_000
IMAGE_MODELS = ["image_classification", "image_segmentation", "object_detection"]
TEXT_MODELS = [
    "conversational",
    "embeddings",
    "sentence_similarity",
    "sentiment",
    "summarization",
    "text_generation",
]
CARDS = load_data("model_cards")

every_model = pytest.mark.parametrize("name", starter_names())


def folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_starter_models_are_discovered() -> None:
    assert starter_names() == sorted([*IMAGE_MODELS, *TEXT_MODELS])


@every_model
def test_folder_is_smaller_than_a_megabyte(name: str) -> None:
    assert folder_size(MODELS_FOLDER / name) <= MEGABYTE


def test_all_folders_are_smaller_than_six_megabytes() -> None:
    assert sum(folder_size(MODELS_FOLDER / name) for name in starter_names()) <= 6 * MEGABYTE


@every_model
def test_config_yml_has_only_the_module_id(name: str) -> None:
    config = yaml.safe_load((MODELS_FOLDER / name / "config.yml").read_text())
    assert config == {"module_id": CARDS[name]["module_id"]}


@every_model
def test_model_card_has_metadata_for_the_hub(name: str) -> None:
    _, head, _ = (MODELS_FOLDER / name / "README.md").read_text().split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["license"] == "apache-2.0"
    assert metadata["pipeline_tag"] == CARDS[name]["pipeline_tag"]
    assert metadata["library_name"] == CARDS[name]["library"]
    assert metadata["tags"] == ["roster", "starter", "synthetic-data", *CARDS[name]["tags"]]


@every_model
def test_model_card_states_scores_and_limitations(name: str) -> None:
    card = (MODELS_FOLDER / name / "README.md").read_text()
    assert "## What it is not for" in card
    assert f"--evaluate {name}" in card
    assert len(committed_scores(name)) >= 2


@every_model
def test_committed_model_card_is_what_the_code_writes(name: str, tmp_path: Path) -> None:
    write_card(name, committed_scores(name), tmp_path)
    for file in ("README.md", "config.yml"):
        assert (tmp_path / file).read_text() == (MODELS_FOLDER / name / file).read_text()


def committed_scores(name: str) -> list[Score]:
    """Read the scores in a committed model card."""
    card = (MODELS_FOLDER / name / "README.md").read_text()
    rows = re.findall(r"^\| (.+) \| (-?\d\.\d{3}) \| (\d+) \|$", card, re.MULTILINE)
    return [Score(metric, float(value), int(count)) for metric, value, count in rows]


@every_model
def test_weights_are_float16_and_load_as_float32(name: str) -> None:
    folder = MODELS_FOLDER / name
    with safe_open(folder / "model.safetensors", "pt") as stored:
        types = {stored.get_slice(key).get_dtype() for key in stored.keys()}  # noqa: SIM118 (not a dict)
    assert types <= {"F16", "I64"}
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"
    assert load_model(name).dtype == torch.float32


def load_model(name: str) -> Any:
    """Load a model with the architecture that its config names."""
    folder = MODELS_FOLDER / name
    (architecture,) = json.loads((folder / "config.json").read_text())["architectures"]
    return getattr(transformers, architecture).from_pretrained(folder).eval()


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_tokenizer_has_the_length_and_vocabulary_of_its_model(name: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODELS_FOLDER / name)
    config = transformers.AutoConfig.from_pretrained(MODELS_FOLDER / name)
    assert tokenizer.model_max_length == getattr(
        config, "max_position_embeddings", tokenizer.model_max_length
    )
    assert tokenizer.model_max_length <= 256
    assert len(tokenizer) == config.vocab_size


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_image_processor_needs_only_pil(name: str) -> None:
    processor = transformers.AutoImageProcessor.from_pretrained(MODELS_FOLDER / name, backend="pil")
    assert type(processor).__name__.endswith("Pil")
    height, width = (processor.size[side] for side in ("height", "width"))
    pixels = processor(Image.new("RGB", (90, 50)), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, height, width)


@pytest.mark.parametrize("name", ["embeddings", "sentence_similarity"])
def test_pooling_is_described_to_sentence_transformers(name: str) -> None:
    folder = MODELS_FOLDER / name
    modules = json.loads((folder / "modules.json").read_text())
    assert [module["path"] for module in modules] == ["", "1_Pooling", "2_Normalize"]
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert [mode for mode, used in pooling.items() if mode.startswith("pooling_mode") and used] == [
        "pooling_mode_mean_tokens"
    ]
    config = transformers.AutoConfig.from_pretrained(folder)
    assert pooling["word_embedding_dimension"] == config.hidden_size
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == 64
