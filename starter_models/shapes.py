"""Draws pictures of circles, squares and triangles: the training data of the image models."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle")
COLORS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (240, 210, 40),
    "purple": (140, 60, 180),
    "orange": (245, 140, 30),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
    "pink": (245, 130, 180),
    "cyan": (40, 200, 210),
    "gray": (128, 128, 128),
    "brown": (120, 75, 40),
}
CORNERS = {"circle": 48, "square": 4, "triangle": 3}
UPRIGHT = {"circle": 0.0, "square": math.pi / 4, "triangle": -math.pi / 2}
LEAST_CONTRAST = 90.0

Color = tuple[int, int, int]
Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Style:
    """What the pictures of one task look like; radii are fractions of a picture's shorter side."""

    most_shapes: int = 1
    smallest: float = 0.12
    largest: float = 0.42
    largest_of_several: float = 0.25
    turn: float = math.pi
    outlined: float = 0.0
    grid: int | None = None


@dataclass(frozen=True)
class Drawn:
    """A shape in a picture; points are in pixels, the box (left, top, right, bottom) in fractions."""

    shape: str
    points: tuple[Point, ...]
    box: Box


@dataclass(frozen=True)
class Scene:
    """A picture, the shapes in it and for each pixel 0 (background) or 1 + the index of its shape."""

    picture: Image.Image
    drawn: tuple[Drawn, ...]
    mask: NDArray[np.uint8]


def draw_scenes(count: int, style: Style, seed: int) -> list[Scene]:
    """Draws many pictures, always the same ones for the same seed."""
    rng = random.Random(seed)
    return [draw_scene(rng, style) for _ in range(count)]


def draw_scene(rng: random.Random, style: Style) -> Scene:
    """Draws one picture of a random size."""
    size = random_size(rng)
    background = random_background(rng)
    drawn = place_shapes(rng, style, size)
    picture, mask = Image.new("RGB", size, background), Image.new("L", size, 0)
    shade(rng, picture, background)
    for item in drawn:
        paint(rng, style, item, picture, background)
        ImageDraw.Draw(mask).polygon(item.points, fill=SHAPES.index(item.shape) + 1)
    return Scene(add_noise(rng, picture), drawn, np.asarray(mask))


def random_size(rng: random.Random) -> tuple[int, int]:
    """Half of the pictures are square, the others up to 16:9 in either direction."""
    short = rng.randint(64, 160)
    long = short if rng.random() < 0.5 else round(short * rng.uniform(1.0, 16 / 9))
    return (long, short) if rng.random() < 0.6 else (short, long)


def random_background(rng: random.Random) -> Color:
    """A plain colour, often nearly white or nearly black."""
    kind = rng.random()
    if kind < 0.3:
        return varied(rng, (245, 245, 245), 10)
    if kind < 0.4:
        return varied(rng, (15, 15, 15), 15)
    return varied(rng, rng.choice(list(COLORS.values())))


def varied(rng: random.Random, color: Color, spread: int = 25) -> Color:
    """A colour near the given one."""
    red, green, blue = (min(255, max(0, channel + rng.randint(-spread, spread))) for channel in color)
    return red, green, blue


def place_shapes(rng: random.Random, style: Style, size: tuple[int, int]) -> tuple[Drawn, ...]:
    """Tries places until the wanted number of shapes stand clear of one another."""
    wanted = rng.randint(1, style.most_shapes)
    placed: list[Drawn] = []
    for _ in range(60):
        if len(placed) == wanted:
            break
        candidate = random_shape(rng, style, size, alone=wanted == 1)
        if all(are_apart(candidate, other, style.grid) for other in placed):
            placed.append(candidate)
    return tuple(placed)


def random_shape(rng: random.Random, style: Style, size: tuple[int, int], alone: bool) -> Drawn:
    """A shape somewhere in the picture, turned by at most style.turn either way."""
    shape = rng.choice(SHAPES)
    radius = rng.uniform(style.smallest, style.largest if alone else style.largest_of_several) * min(size)
    x, y = (rng.uniform(radius * 0.95, side - radius * 0.95) for side in size)
    points = outline(shape, (x, y), radius, rng.uniform(-style.turn, style.turn))
    return Drawn(shape, points, box_around(points, size))


def outline(shape: str, center: Point, radius: float, angle: float) -> tuple[Point, ...]:
    """The corners of a shape."""
    count = CORNERS[shape]
    angles = [angle + UPRIGHT[shape] + 2 * math.pi * corner / count for corner in range(count)]
    return tuple((center[0] + radius * math.cos(a), center[1] + radius * math.sin(a)) for a in angles)


def box_around(points: tuple[Point, ...], size: tuple[int, int]) -> Box:
    """The box of a shape in fractions of the picture's sides, cut off at its edges."""
    across, down = [x / size[0] for x, _ in points], [y / size[1] for _, y in points]
    return max(0.0, min(across)), max(0.0, min(down)), min(1.0, max(across)), min(1.0, max(down))


def are_apart(one: Drawn, other: Drawn, grid: int | None) -> bool:
    """Whether two shapes leave a gap, and (where a grid is given) have their centres in different cells."""
    gap = 0.015
    (left, top, right, bottom), (left2, top2, right2, bottom2) = one.box, other.box
    clear = right + gap < left2 or right2 + gap < left or bottom + gap < top2 or bottom2 + gap < top
    return clear and (grid is None or grid_cell(one.box, grid) != grid_cell(other.box, grid))


def grid_cell(box: Box, grid: int) -> int:
    """The number of the grid cell that holds a box's centre."""
    column, row = (min(grid - 1, int((low + high) / 2 * grid)) for low, high in (box[::2], box[1::2]))
    return row * grid + column


def shade(rng: random.Random, picture: Image.Image, background: Color) -> None:
    """Lays a soft gradient over some backgrounds."""
    if rng.random() < 0.75:
        return
    low, high = varied(rng, background), varied(rng, background)
    gradient = Image.linear_gradient("L").resize(picture.size)
    picture.paste(
        Image.composite(Image.new("RGB", picture.size, low), Image.new("RGB", picture.size, high), gradient)
    )


def paint(rng: random.Random, style: Style, item: Drawn, picture: Image.Image, background: Color) -> None:
    """Draws a shape in a colour that stands out, mostly filled."""
    color = contrasting(rng, background)
    if rng.random() < style.outlined:
        width = max(2, round(0.045 * min(picture.size)))
        ImageDraw.Draw(picture).polygon(item.points, outline=color, width=width)
    else:
        ImageDraw.Draw(picture).polygon(item.points, fill=color)


def contrasting(rng: random.Random, background: Color) -> Color:
    """A colour that can be told from the background."""
    while True:
        color = varied(rng, rng.choice(list(COLORS.values())))
        if math.dist(color, background) >= LEAST_CONTRAST:
            return color


def add_noise(rng: random.Random, picture: Image.Image) -> Image.Image:
    """Adds the grain of a camera to half of the pictures."""
    if rng.random() < 0.5:
        return picture
    grain = np.random.RandomState(rng.randrange(1 << 30)).normal(
        0, rng.uniform(2, 25), (*picture.size[::-1], 3)
    )
    return Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8))
