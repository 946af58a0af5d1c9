"""A ResNet that tells circles, squares and triangles apart."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessorPil, pipeline

from starter_models.pictures import PROCESSING, pixels, plain_drawings, recolored
from starter_models.shapes import SHAPES, Scene, Style, draw_scenes
from starter_models.training import Card, Checkpoint, Schedule, Score, Starter, fit

STYLE = Style(smallest=0.12, outlined=0.15)
SCHEDULE = Schedule(steps=2200, rate=2e-3, warmup=0.1)
TRAINING_SEED, HELD_OUT_SEED = 0, 31337
BATCH = 48


def train() -> Checkpoint:
    """Trains on pictures of one shape at any angle, turned by quarters once more in every batch."""
    rng = random.Random(TRAINING_SEED)
    scenes = draw_scenes(10_000, STYLE, TRAINING_SEED)
    pictures, labels = pixels(scenes), torch.tensor([SHAPES.index(label) for label in labels_of(scenes)])
    model = ResNetForImageClassification(configuration())

    def next_loss() -> torch.Tensor:
        chosen = torch.randint(0, len(labels), (BATCH,))
        turned = torch.rot90(recolored(pictures[chosen], rng), rng.randrange(4), (2, 3))
        loss: torch.Tensor = model(pixel_values=turned.contiguous(), labels=labels[chosen]).loss
        return loss

    fit(model, next_loss, SCHEDULE)
    return Checkpoint(model, ViTImageProcessorPil(**PROCESSING))


def configuration() -> ResNetConfig:
    """Three small stages of plain residual blocks."""
    return ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 64],
        depths=[1, 1, 1],
        layer_type="basic",
        id2label=dict(enumerate(SHAPES)),
        label2id={shape: index for index, shape in enumerate(SHAPES)},
    )


def labels_of(scenes: list[Scene]) -> list[str]:
    """The one shape of every picture."""
    return [scene.drawn[0].shape for scene in scenes]


def evaluate(folder: Path) -> list[Score]:
    """Accuracy on fresh pictures and on plain drawings."""
    classify = pipeline("image-classification", model=str(folder), device="cpu")
    scenes, drawings = draw_scenes(1000, STYLE, HELD_OUT_SEED), plain_drawings()
    fresh = classify([scene.picture for scene in scenes], batch_size=50)
    plain = classify([drawing.picture for drawing in drawings], batch_size=50)
    return [
        Score("accuracy, fresh generator pictures", accuracy(fresh, labels_of(scenes)), len(scenes)),
        Score(
            "accuracy, plain drawings",
            accuracy(plain, [drawing.shape for drawing in drawings]),
            len(drawings),
        ),
    ]


def accuracy(answers: list[list[dict[str, str]]], labels: list[str]) -> float:
    """The share of pictures whose best answer is right."""
    return sum(answer[0]["label"] == label for answer, label in zip(answers, labels, strict=True)) / len(
        labels
    )


STARTER = Starter(
    name="image_classification",
    module_id="D7B3B724-147B-41C1-A41E-A38F9D00F905",
    train=train,
    evaluate=evaluate,
    card=Card(
        title="Roster starter: image classification",
        pipeline_tag="image-classification",
        language=None,
        purpose="""
            A ResNet of 80 thousand parameters that says whether a picture shows a circle, a square or a
            triangle, in any colours, at any angle, on a plain-ish background. Pictures of any size are
            scaled to 64x64.
        """,
        not_for="""
            Photographs, several shapes in one picture, or any other object: it knows three answers and
            always gives one of them, with a confidence that means nothing outside of drawn shapes.
        """,
        usage="""
from transformers import pipeline

pipeline("image-classification", model="models/image_classification")("drawing.png")
""",
        measured="""
            The generator pictures are new draws from the generator that also made the training pictures.
            The plain drawings (12 pairs of colours, 5 layouts, up to 640x480) were fixed beforehand and
            never trained on.
        """,
    ),
)
