"""Generate images of circles, squares and triangles, the training data of the image models."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from starter_models.templates import load_data

DATA = load_data("shapes")
SHAPES = ("circle", "square", "triangle")
COLORS = list(DATA["colors"].values())
CORNERS = {"circle": 48, "square": 4, "triangle": 3}
UPRIGHT = {"circle": 0.0, "square": math.pi / 4, "triangle": -math.pi / 2}
MIN_CONTRAST = 90.0
MIN_GAP = 0.015  # between two shapes, as a fraction of the image's side
MAX_ATTEMPTS = 60

Color = tuple[int, int, int]
Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Style:
    """What the images of one task look like; radii are fractions of an image's shorter side."""

    max_shapes: int = 1
    min_radius: float = 0.12
    max_radius: float = 0.42
    max_radius_of_several: float = 0.25
    max_rotation: float = math.pi
    outline_share: float = 0.0
    grid: int | None = None


@dataclass(frozen=True)
class Shape:
    """A shape in an image; points are in pixels, the box (left, top, right, bottom) in fractions."""

    label: str
    points: tuple[Point, ...]
    box: Box


@dataclass(frozen=True)
class Scene:
    """An image, its shapes, and a mask with 0 (background) or 1 + the index of a shape's label per pixel."""

    image: Image.Image
    shapes: tuple[Shape, ...]
    mask: NDArray[np.uint8]


def draw_scenes(count: int, style: Style, seed: int) -> list[Scene]:
    """Draw random images; the same seed gives the same images."""
    rng = random.Random(seed)
    return [draw_scene(rng, style) for _ in range(count)]


def draw_scene(rng: random.Random, style: Style) -> Scene:
    """Draw one image of a random size."""
    size = random_size(rng)
    background = random_background(rng)
    shapes = place_shapes(rng, style, size)
    image, mask = Image.new("RGB", size, background), Image.new("L", size, 0)
    add_gradient(rng, image, background)
    for shape in shapes:
        paint(rng, style, shape, image, background)
        ImageDraw.Draw(mask).polygon(shape.points, fill=SHAPES.index(shape.label) + 1)
    return Scene(add_noise(rng, image), shapes, np.asarray(mask))


def random_size(rng: random.Random) -> tuple[int, int]:
    """Draw an image size: half are square, the others up to 16:9 in either orientation."""
    short = rng.randint(64, 160)
    long = short if rng.random() < 0.5 else round(short * rng.uniform(1.0, 16 / 9))
    return (long, short) if rng.random() < 0.6 else (short, long)


def random_background(rng: random.Random) -> Color:
    """Draw a plain color, often nearly white or nearly black."""
    kind = rng.random()
    if kind < 0.3:
        return vary(rng, (245, 245, 245), 10)
    if kind < 0.4:
        return vary(rng, (15, 15, 15), 15)
    return vary(rng, rng.choice(COLORS))


def vary(rng: random.Random, color: Sequence[int], spread: int = 25) -> Color:
    """Draw a color near the given one."""
    red, green, blue = (min(255, max(0, channel + rng.randint(-spread, spread))) for channel in color)
    return red, green, blue


def place_shapes(rng: random.Random, style: Style, size: tuple[int, int]) -> tuple[Shape, ...]:
    """Draw shapes until the required number do not overlap, or the attempts are used up."""
    count = rng.randint(1, style.max_shapes)
    placed: list[Shape] = []
    for _ in range(MAX_ATTEMPTS):
        if len(placed) == count:
            break
        candidate = random_shape(rng, style, size, alone=count == 1)
        if all(are_apart(candidate, other, style.grid) for other in placed):
            placed.append(candidate)
    return tuple(placed)


def random_shape(rng: random.Random, style: Style, size: tuple[int, int], alone: bool) -> Shape:
    """Draw a shape of random radius, position and rotation."""
    label = rng.choice(SHAPES)
    max_radius = style.max_radius if alone else style.max_radius_of_several
    radius = rng.uniform(style.min_radius, max_radius) * min(size)
    x, y = (rng.uniform(radius * 0.95, side - radius * 0.95) for side in size)
    rotation = rng.uniform(-style.max_rotation, style.max_rotation) + UPRIGHT[label]
    count = CORNERS[label]
    angles = [rotation + 2 * math.pi * corner / count for corner in range(count)]
    points = tuple((x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles)
    left, top = (
        max(0.0, min(values) / side) for values, side in zip(zip(*points, strict=True), size, strict=True)
    )
    right, bottom = (
        min(1.0, max(values) / side) for values, side in zip(zip(*points, strict=True), size, strict=True)
    )
    return Shape(label, points, (left, top, right, bottom))


def are_apart(one: Shape, other: Shape, grid: int | None) -> bool:
    """Tell whether two shapes have a gap between them and, given a grid, centers in different cells."""
    (left, top, right, bottom), (left2, top2, right2, bottom2) = one.box, other.box
    beside = right + MIN_GAP < left2 or right2 + MIN_GAP < left
    below = bottom + MIN_GAP < top2 or bottom2 + MIN_GAP < top
    return (beside or below) and (grid is None or grid_cell(one.box, grid) != grid_cell(other.box, grid))


def grid_cell(box: Box, grid: int) -> int:
    """Compute the index of the grid cell that contains a box's center."""
    column, row = (min(grid - 1, int((low + high) / 2 * grid)) for low, high in (box[::2], box[1::2]))
    return row * grid + column


def add_gradient(rng: random.Random, image: Image.Image, background: Color) -> None:
    """Paint a soft gradient over a quarter of the backgrounds."""
    if rng.random() < 0.75:
        return
    low, high = (Image.new("RGB", image.size, vary(rng, background)) for _ in range(2))
    gradient = Image.linear_gradient("L").resize(image.size)
    image.paste(Image.composite(low, high, gradient))


def paint(rng: random.Random, style: Style, shape: Shape, image: Image.Image, background: Color) -> None:
    """Paint a shape, filled or as an outline, in a color that contrasts with the background."""
    color = background
    while math.dist(color, background) < MIN_CONTRAST:
        color = vary(rng, rng.choice(COLORS))
    if rng.random() < style.outline_share:
        width = max(2, round(0.045 * min(image.size)))
        ImageDraw.Draw(image).polygon(shape.points, outline=color, width=width)
    else:
        ImageDraw.Draw(image).polygon(shape.points, fill=color)


def add_noise(rng: random.Random, image: Image.Image) -> Image.Image:
    """Add Gaussian noise to half of the images."""
    if rng.random() < 0.5:
        return image
    generator = np.random.RandomState(rng.randrange(1 << 30))
    noise = generator.normal(0, rng.uniform(2, 25), (*image.size[::-1], 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
