"""Save trained models as float16 checkpoints that load as float32, with their model cards."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from transformers import PreTrainedModel

from starter_models.evaluation import Score, format_scores
from starter_models.templates import DATA_FOLDER, load_data


@dataclass(frozen=True)
class Checkpoint:
    """A trained model with its tokenizer or image processor and any further JSON files of its folder."""

    model: PreTrainedModel
    processor: Any
    extra_files: Mapping[str, object] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the weights, the configuration and the tokenizer or image processor."""
    checkpoint.model.half().save_pretrained(folder)
    checkpoint.processor.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    for path, content in {"config.json": {**config, "dtype": "float32"}, **checkpoint.extra_files}.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(content, indent=2) + "\n")


def write_card(name: str, scores: Sequence[Score], folder: Path) -> None:
    """Write config.yml, and the model card with the evaluation scores."""
    card = load_data("model_cards")[name]
    template = jinja2.Template(
        (DATA_FOLDER / "model_card.md.jinja").read_text(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    text = template.render(name=name, card=card, scores=format_scores(scores))
    (folder / "README.md").write_text(text)
    (folder / "config.yml").write_text(f"module_id: {card['module_id']}\n")
