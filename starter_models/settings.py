"""Read data/models.yaml: the architecture and the training settings of every starter model."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import transformers

from starter_models.templates import load_data

MODELS = load_data("models")
Example = TypeVar("Example")


@dataclass(frozen=True)
class Training:
    """Training settings; the learning rate warms up linearly and then decays to 2 % along a cosine."""

    steps: int
    peak_rate: float
    batch_size: int
    examples: int = 0
    seed: int = 0
    evaluation_seed: int = 0
    weight_decay: float = 0.01
    warmup: float = 0.05

    def rate_at(self, step: int) -> float:
        """Compute the learning rate of one step."""
        rising = min(1.0, (step + 1) / max(1.0, self.warmup * self.steps))
        falling = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.peak_rate * rising * (0.98 * falling + 0.02)


def load_training(name: str) -> Training:
    """Load the training settings of one model."""
    return Training(**MODELS[name]["training"])


def create_model(name: str, labels: Sequence[str] = (), **config: Any) -> transformers.PreTrainedModel:
    """Create an untrained model with random weights."""
    entry = MODELS[name]
    if labels:
        config["id2label"] = dict(enumerate(labels))
        config["label2id"] = {label: index for index, label in enumerate(labels)}
    model_class = getattr(transformers, entry["class"])
    model = model_class(model_class.config_class(**entry["config"], **config), **entry.get("options", {}))
    if "generation" in entry:
        model.generation_config = transformers.GenerationConfig(**entry["generation"])
    return model


def generate_examples(make_example: Callable[[random.Random], Example], training: Training) -> list[Example]:
    """Generate a training set."""
    rng = random.Random(training.seed)
    return [make_example(rng) for _ in range(training.examples)]


def generate_held_out(
    make_example: Callable[[random.Random], tuple[str, Any]], training: Training, count: int
) -> list[tuple[str, Any]]:
    """Generate examples whose texts are not in the training set."""
    known = {text for text, _ in generate_examples(make_example, training)}
    rng, examples = random.Random(training.evaluation_seed), list[tuple[str, Any]]()
    while len(examples) < count:
        example = make_example(rng)
        if example[0] not in known:
            examples.append(example)
    return examples
