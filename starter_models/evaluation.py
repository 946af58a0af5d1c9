"""Evaluation helpers: scores, accuracy and text generation with a saved checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH_SIZE = 50


@dataclass(frozen=True)
class Score:
    """One row of a model card: the metric, its value and the number of examples."""

    name: str
    value: float
    count: int


def format_scores(scores: Sequence[Score]) -> str:
    """Format scores as a Markdown table."""
    rows = [f"| {score.name} | {score.value:.3f} | {score.count} |" for score in scores]
    return "\n".join(["| metric | score | examples |", "|---|---|---|", *rows])


def mean_score(name: str, values: Sequence[float]) -> Score:
    """Compute the mean of values or, for booleans, the share that is true."""
    return Score(name, sum(values) / len(values), len(values))


def accuracy(name: str, predictions: Sequence[object], labels: Sequence[object]) -> Score:
    """Compute the share of predictions that are right."""
    return mean_score(name, [found == label for found, label in zip(predictions, labels, strict=True)])


def classifier_accuracy(name: str, classify: Any, examples: Sequence[tuple[Any, str]]) -> Score:
    """Compute the accuracy of a classification pipeline on inputs with their labels."""
    inputs, labels = zip(*examples, strict=True)
    outputs = classify(list(inputs), batch_size=BATCH_SIZE, top_k=1)
    return accuracy(f"accuracy, {name}", [output[0]["label"] for output in outputs], labels)


class TextGenerator:
    """Generate text with a saved checkpoint and its own generation settings."""

    def __init__(self, folder: Path, model_class: Any = AutoModelForCausalLM) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = model_class.from_pretrained(folder).eval()

    def __call__(self, prompts: Sequence[str], skip_prompt: bool = False) -> list[str]:
        """Generate one text per prompt, in batches."""
        texts: list[str] = []
        for start in range(0, len(prompts), BATCH_SIZE):
            batch = self.tokenizer(
                list(prompts[start : start + BATCH_SIZE]), padding=True, truncation=True, return_tensors="pt"
            )
            ids = self.model.generate(**batch)[:, batch["input_ids"].shape[1] if skip_prompt else 0 :]
            texts += self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]
