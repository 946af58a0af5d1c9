"""A SegFormer that paints circles, squares and triangles in a picture."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional
from transformers import (
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessorPil,
    pipeline,
)

from starter_models.pictures import PROCESSING, SIDE, masks, pixels, plain_drawings, recolored
from starter_models.shapes import SHAPES, Style, draw_scenes
from starter_models.training import Card, Checkpoint, Schedule, Score, Starter, fit

LABELS = ("background", *SHAPES)
STYLE = Style(most_shapes=4, smallest=0.15, largest_of_several=0.3, turn=0.3)
SCHEDULE = Schedule(steps=3000, rate=3e-3)
TRAINING_SEED, HELD_OUT_SEED = 0, 31337
BATCH = 24
CLASS_WEIGHTS = torch.tensor([0.4, 1.0, 1.0, 1.0])  # most pixels are background

Mask = NDArray[np.intp]


def train() -> Checkpoint:
    """Trains on pictures of one to four nearly upright shapes."""
    rng = random.Random(TRAINING_SEED)
    scenes = draw_scenes(8000, STYLE, TRAINING_SEED)
    pictures, targets = pixels(scenes), masks(scenes)
    model = SegformerForSemanticSegmentation(configuration())

    def next_loss() -> torch.Tensor:
        chosen = torch.randint(0, len(targets), (BATCH,))
        seen, wanted = recolored(pictures[chosen], rng), targets[chosen]
        if rng.random() < 0.5:
            seen, wanted = seen.flip(3), wanted.flip(2)
        logits = model(pixel_values=seen).logits
        enlarged = functional.interpolate(logits, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        return functional.cross_entropy(enlarged, wanted, weight=CLASS_WEIGHTS)

    fit(model, next_loss, SCHEDULE)
    return Checkpoint(model, SegformerImageProcessorPil(**PROCESSING, do_reduce_labels=False))


def configuration() -> SegformerConfig:
    """Four shallow stages, sized for 64x64 pictures."""
    return SegformerConfig(
        depths=[1, 1, 1, 1],
        sr_ratios=[4, 2, 1, 1],
        hidden_sizes=[16, 32, 48, 64],
        patch_sizes=[7, 3, 3, 3],
        strides=[4, 2, 2, 2],
        num_attention_heads=[1, 2, 2, 4],
        mlp_ratios=[2, 2, 2, 2],
        decoder_hidden_size=64,
        classifier_dropout_prob=0.0,
        drop_path_rate=0.0,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )


def evaluate(folder: Path) -> list[Score]:
    """Overlap with the true masks of fresh pictures, and the painted class on plain drawings."""
    segment = pipeline("image-segmentation", model=str(folder), device="cpu")
    scenes, drawings = draw_scenes(300, STYLE, HELD_OUT_SEED), plain_drawings()
    pairs = [(painted(segment, scene.picture), scene.mask.astype(np.intp)) for scene in scenes]
    right = [main_shape(painted(segment, drawing.picture)) == drawing.shape for drawing in drawings]
    per_class = [
        Score(f"IoU of {label}", overlap(pairs, index), len(scenes)) for index, label in enumerate(LABELS)
    ]
    mean = sum(score.value for score in per_class) / len(per_class)
    return [
        Score("mean IoU, fresh generator pictures", mean, len(scenes)),
        *per_class,
        Score("main shape right, plain drawings", sum(right) / len(right), len(right)),
    ]


def painted(segment: Any, picture: Image.Image) -> Mask:
    """The class of every pixel, as the pipeline paints it."""
    result: Mask = np.zeros(picture.size[::-1], dtype=np.intp)
    for part in segment(picture):
        result[np.asarray(part["mask"]) > 0] = LABELS.index(part["label"])
    return result


def main_shape(mask: Mask) -> str:
    """The shape that most of the pixels in front of the background belong to."""
    counts = np.bincount(mask.ravel(), minlength=len(LABELS))
    return SHAPES[int(counts[1:].argmax())] if counts[1:].any() else LABELS[0]


def overlap(pairs: list[tuple[Mask, Mask]], label: int) -> float:
    """Intersection over union of one class, over all pictures together."""
    both = sum(int(((found == label) & (true == label)).sum()) for found, true in pairs)
    either = sum(int(((found == label) | (true == label)).sum()) for found, true in pairs)
    return both / either


STARTER = Starter(
    name="image_segmentation",
    module_id="D44941F7-6967-45ED-823B-C1070C9257F9",
    train=train,
    evaluate=evaluate,
    card=Card(
        title="Roster starter: image segmentation",
        pipeline_tag="image-segmentation",
        language=None,
        purpose="""
            A SegFormer of 150 thousand parameters that marks the pixels of circles, squares and triangles
            in any colours on plain-ish backgrounds. Pictures of any size are scaled to 64x64 and the masks
            scaled back.
        """,
        not_for="""
            Photographs or any other object; shapes turned by more than about 17 degrees, smaller than a
            seventh of the picture, or over one another. Edges are as coarse as a 16x16 grid drawn smooth.
        """,
        usage="""
from transformers import pipeline

pipeline("image-segmentation", model="models/image_segmentation")("drawing.png")
""",
        measured="""
            The generator pictures are new draws from the generator that also made the training pictures.
            The plain drawings (12 pairs of colours, 5 layouts, up to 640x480) were fixed beforehand and
            never trained on; one counts as right when most of its marked pixels carry the right class.
        """,
    ),
)
