"""Train a ResNet that classifies drawings of circles, squares and triangles."""

import random
from pathlib import Path

import torch
from transformers import ViTImageProcessorPil, pipeline

from starter_models.checkpoint import Checkpoint
from starter_models.evaluation import Score, classifier_accuracy
from starter_models.images import PROCESSING, augment_colors, image_tensor, plain_drawings
from starter_models.settings import create_model, load_training
from starter_models.shapes import SHAPES, Style, draw_scenes
from starter_models.trainer import fit

TRAINING = load_training("image_classification")
STYLE = Style(min_radius=0.12, outline_share=0.15)


def train() -> Checkpoint:
    """Train on images of one shape at any angle, rotated by a multiple of 90 degrees in every batch."""
    rng = random.Random(TRAINING.seed)
    scenes = draw_scenes(TRAINING.examples, STYLE, TRAINING.seed)
    images, labels = (
        image_tensor(scenes),
        torch.tensor([SHAPES.index(scene.shapes[0].label) for scene in scenes]),
    )
    model = create_model("image_classification", labels=SHAPES)

    def next_loss() -> torch.Tensor:
        batch = torch.randint(0, len(labels), (TRAINING.batch_size,))
        rotated = torch.rot90(augment_colors(images[batch], rng), rng.randrange(4), (2, 3))
        loss: torch.Tensor = model(pixel_values=rotated.contiguous(), labels=labels[batch]).loss
        return loss

    fit(model, next_loss, TRAINING)
    return Checkpoint(model, ViTImageProcessorPil(**PROCESSING))


def evaluate(folder: Path) -> list[Score]:
    """Compute the accuracy on new generated images and on plain drawings."""
    classify = pipeline("image-classification", model=str(folder), device="cpu")
    scenes = draw_scenes(1000, STYLE, TRAINING.evaluation_seed)
    generated = [(scene.image, scene.shapes[0].label) for scene in scenes]
    plain = [(image, shape) for image, shape, _ in plain_drawings()]
    return [
        classifier_accuracy("new generated images", classify, generated),
        classifier_accuracy("plain drawings", classify, plain),
    ]
