"""Images as tensors, and the plain drawings on which the image models are also evaluated."""

import random
from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from PIL import Image, ImageDraw

from starter_models.shapes import DATA, SHAPES, Box, Scene

SIDE = 64
PROCESSING = {"size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}

PlainDrawing = tuple[Image.Image, str, Box]  # with its shape and the box in pixels


def image_tensor(scenes: Sequence[Scene], side: int = SIDE) -> torch.Tensor:
    """Scale images to the size of a model's input, as bytes of shape (images, channels, rows, columns)."""
    resized = [scene.image.resize((side, side), Image.Resampling.BILINEAR) for scene in scenes]
    return torch.from_numpy(np.stack([np.asarray(image) for image in resized])).permute(0, 3, 1, 2)


def mask_tensor(scenes: Sequence[Scene]) -> torch.Tensor:
    """Scale masks to the size of a model's input."""
    resized = [Image.fromarray(scene.mask).resize((SIDE, SIDE), Image.Resampling.NEAREST) for scene in scenes]
    return torch.from_numpy(np.stack([np.asarray(mask) for mask in resized])).long()


def augment_colors(batch: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Scale bytes to -1..1, and invert or swap the colors of some batches."""
    scaled = batch.float() / 127.5 - 1
    if rng.random() < 0.3:
        scaled = -scaled
    if rng.random() < 0.3:
        scaled = scaled[:, rng.sample(range(3), 3)]
    return scaled.contiguous()


def plain_drawings() -> list[PlainDrawing]:
    """Draw every shape in every pair of colors and every layout: 180 drawings."""
    choices = product(SHAPES, DATA["color_pairs"], DATA["layouts"])
    return [draw_plainly(shape, *colors, **layout) for shape, colors, layout in choices]


def draw_plainly(
    shape: str, color: str, background: str, size: Sequence[int], center: Sequence[float], radius: float
) -> PlainDrawing:
    """Draw one upright shape with PIL's own drawing functions."""
    width, height = size
    radius *= min(width, height)
    x, y = center[0] * width, center[1] * height
    box = (x - radius, y - radius, x + radius, y + radius)
    image = Image.new("RGB", (width, height), background)
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse(box, fill=color)
    elif shape == "square":
        draw.rectangle(box, fill=color)
    else:
        draw.polygon([(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)], fill=color)
    return image, shape, box
