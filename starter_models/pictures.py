"""Pictures as tensors, and the plainly drawn pictures on which the image models are also tested."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from PIL import Image, ImageDraw

from starter_models.shapes import SHAPES, Box, Scene

SIDE = 64
PROCESSING = {"size": {"height": SIDE, "width": SIDE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}

# The plain drawings: other drawing calls, other colours and other layouts than in the training pictures.
COLOR_PAIRS = (
    ("red", "white"),
    ("blue", "white"),
    ("green", "white"),
    ("black", "white"),
    ("orange", "white"),
    ("white", "black"),
    ("yellow", "black"),
    ("cyan", "navy"),
    ("red", "lightgray"),
    ("purple", "beige"),
    ("yellow", "blue"),
    ("black", "lightblue"),
)
# picture size, centre as fractions of it, radius as a fraction of the shorter side
LAYOUTS = (
    ((64, 64), (0.5, 0.5), 0.3),
    ((100, 100), (0.3, 0.35), 0.2),
    ((224, 224), (0.6, 0.6), 0.25),
    ((320, 240), (0.5, 0.55), 0.35),
    ((640, 480), (0.35, 0.6), 0.2),
)


@dataclass(frozen=True)
class PlainDrawing:
    """A plain drawing of one shape, with the box around it in pixels."""

    picture: Image.Image
    shape: str
    box: Box


def pixels(scenes: Sequence[Scene], side: int = SIDE) -> torch.Tensor:
    """The pictures at the size a model sees them, as bytes (channels before rows)."""
    resized = [scene.picture.resize((side, side), Image.Resampling.BILINEAR) for scene in scenes]
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in resized])).permute(0, 3, 1, 2)


def masks(scenes: Sequence[Scene]) -> torch.Tensor:
    """The masks at the same size."""
    resized = [Image.fromarray(scene.mask).resize((SIDE, SIDE), Image.Resampling.NEAREST) for scene in scenes]
    return torch.from_numpy(np.stack([np.asarray(mask) for mask in resized])).long()


def recolored(batch: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Scales bytes to -1..1 and sometimes inverts or swaps the colours: shapes stay what they are."""
    scaled = batch.float() / 127.5 - 1
    if rng.random() < 0.3:
        scaled = -scaled
    if rng.random() < 0.3:
        scaled = scaled[:, rng.sample(range(3), 3)]
    return scaled.contiguous()


def plain_drawings() -> list[PlainDrawing]:
    """Every shape in every pair of colours and every layout: 180 drawings."""
    return [plain_drawing(*choice) for choice in product(SHAPES, COLOR_PAIRS, LAYOUTS)]


def plain_drawing(
    shape: str, colors: tuple[str, str], layout: tuple[tuple[int, int], tuple[float, float], float]
) -> PlainDrawing:
    """Draws one upright shape as anybody would with PIL."""
    (width, height), center, share = layout
    color, background = colors
    radius = share * min(width, height)
    x, y = center[0] * width, center[1] * height
    box = (x - radius, y - radius, x + radius, y + radius)
    picture = Image.new("RGB", (width, height), background)
    draw = ImageDraw.Draw(picture)
    if shape == "circle":
        draw.ellipse(box, fill=color)
    elif shape == "square":
        draw.rectangle(box, fill=color)
    else:
        draw.polygon([(x, y - radius), (x + radius, y + radius), (x - radius, y + radius)], fill=color)
    return PlainDrawing(picture, shape, box)
