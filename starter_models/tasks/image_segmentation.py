"""Train a SegFormer that segments circles, squares and triangles."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional
from transformers import SegformerImageProcessorPil, pipeline

from starter_models.checkpoint import Checkpoint
from starter_models.evaluation import Score, accuracy
from starter_models.images import PROCESSING, SIDE, augment_colors, image_tensor, mask_tensor, plain_drawings
from starter_models.settings import create_model, load_training
from starter_models.shapes import SHAPES, Style, draw_scenes
from starter_models.trainer import fit

LABELS = ("background", *SHAPES)
TRAINING = load_training("image_segmentation")
STYLE = Style(max_shapes=4, min_radius=0.15, max_radius_of_several=0.3, max_rotation=0.3)
CLASS_WEIGHTS = torch.tensor([0.4, 1.0, 1.0, 1.0])  # most pixels are background


def train() -> Checkpoint:
    """Train on images of one to four nearly upright shapes."""
    rng = random.Random(TRAINING.seed)
    scenes = draw_scenes(TRAINING.examples, STYLE, TRAINING.seed)
    images, masks = image_tensor(scenes), mask_tensor(scenes)
    model = create_model("image_segmentation", labels=LABELS)

    def next_loss() -> torch.Tensor:
        batch = torch.randint(0, len(masks), (TRAINING.batch_size,))
        pixels, targets = augment_colors(images[batch], rng), masks[batch]
        if rng.random() < 0.5:
            pixels, targets = pixels.flip(3), targets.flip(2)
        logits = model(pixel_values=pixels).logits
        enlarged = functional.interpolate(logits, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        return functional.cross_entropy(enlarged, targets, weight=CLASS_WEIGHTS)

    fit(model, next_loss, TRAINING)
    return Checkpoint(model, SegformerImageProcessorPil(**PROCESSING, do_reduce_labels=False))


def evaluate(folder: Path) -> list[Score]:
    """Compute the IoU of the masks of new images, and the accuracy of the largest class on plain drawings."""
    segment = pipeline("image-segmentation", model=str(folder), device="cpu")
    scenes, drawings = draw_scenes(300, STYLE, TRAINING.evaluation_seed), plain_drawings()
    confusion = np.zeros((len(LABELS), len(LABELS)), dtype=np.intp)  # pixels by true and predicted class
    for scene in scenes:
        np.add.at(confusion, (scene.mask, predict_mask(segment, scene.image)), 1)
    overlaps = confusion.diagonal() / (confusion.sum(0) + confusion.sum(1) - confusion.diagonal())
    masks = [predict_mask(segment, image) for image, _, _ in drawings]
    areas = np.array([np.bincount(mask.ravel(), minlength=len(LABELS)) for mask in masks])
    areas[:, 0] = 0  # only shapes count
    largest = [LABELS[index] for index in areas.argmax(1)]
    return [
        Score("mean IoU, new generated images", float(overlaps.mean()), len(scenes)),
        *[Score(f"IoU of {label}", iou, len(scenes)) for label, iou in zip(LABELS, overlaps, strict=True)],
        accuracy("largest shape right, plain drawings", largest, [shape for _, shape, _ in drawings]),
    ]


def predict_mask(segment: Any, image: Image.Image) -> NDArray[np.intp]:
    """Predict the class of every pixel."""
    mask = np.zeros(image.size[::-1], dtype=np.intp)
    for segmented in segment(image):
        mask[np.asarray(segmented["mask"]) > 0] = LABELS.index(segmented["label"])
    return mask
