"""Charts in HTML and SVG: bars, matrices, plots, and annotated images. All text is escaped."""

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from zlib import crc32

from deployments.media import decode_image

MAX_SIDE = 960  # pixels of the displayed image's longer side
MAX_HEIGHT = 460  # pixels of the displayed image's height


def label_colour(label: str) -> str:
    """Return a colour that depends on the label alone and is dark enough for white text."""
    seed = crc32(label.encode())
    return f"oklch({44 + seed // 360 % 3 * 5}% 0.16 {seed % 360})"


def format_number(value: float) -> str:
    """Format a number with three significant digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def format_percent(value: float) -> str:
    """Format a fraction as a percentage."""
    return f"{value:.1%}"


def bar_chart(bars: Sequence[tuple[str, float]], *, coloured: bool = False) -> str:
    """Draw one bar per name and value, in the given order.

    Values from 0 to 1 are shown as percentages of 1; other values are scaled to the largest.
    """
    fractions = all(0 <= value <= 1 for _, value in bars)
    scale = 1 if fractions else max((abs(value) for _, value in bars), default=1) or 1
    items = (
        f'<li><span class="name">{escape(name)}</span>'
        f'<span class="value">{format_percent(value) if fractions else format_number(value)}</span>'
        f'<span class="bar"><i class="{"negative" if value < 0 else ""}" '
        f'style="width:{abs(value) / scale:.2%}'
        f'{";background:" + label_colour(name) if coloured else ""}"></i></span></li>'
        for name, value in bars
    )
    return f'<ol class="bar-chart">{"".join(items)}</ol>'


def similarity_matrix(rows: Sequence[Sequence[float]], names: Sequence[str]) -> str:
    """Draw a square matrix of cosine similarities, with each cell tinted by its value."""
    head = "".join(f'<th scope="col" title="{escape(name)}">{i}</th>' for i, name in enumerate(names, 1))
    body = "".join(
        f'<tr><th scope="row"><b>{i}</b> {escape(truncate(name, 40))}</th>'
        f"{''.join(f'<td {_tint(value)}>{value:.2f}</td>' for value in row)}</tr>"
        for i, (name, row) in enumerate(zip(names, rows, strict=True), 1)
    )
    return f'<div class="scroll"><table class="matrix"><tr><td></td>{head}</tr>{body}</table></div>'


def _tint(value: float) -> str:
    colour = "var(--positive)" if value >= 0 else "var(--negative)"
    return f'style="background:color-mix(in srgb, {colour} {min(abs(value), 1) * 70:.0f}%, transparent)"'


def cosine_similarities(vectors: Sequence[Sequence[float]]) -> list[list[float]]:
    """Compute the cosine similarity, -1 to 1, of every pair of vectors."""
    norms = [math.hypot(*vector) or 1.0 for vector in vectors]
    return [
        [sum(map(float.__mul__, a, b)) / (m * n) for b, n in zip(vectors, norms, strict=True)]
        for a, m in zip(vectors, norms, strict=True)
    ]


def vector_plot(vector: Sequence[float], *, height: int = 140) -> str:
    """Draw a vector as one vertical line per component; `height` is in pixels."""
    scale = max(map(abs, vector), default=0) or 1
    positive, negative = (
        "".join(f"M{i + 0.5} 0V{-value / scale:.3f}" for i, value in enumerate(vector) if value * sign > 0)
        for sign in (1, -1)
    )
    return (
        f'<svg class="vector-plot" style="height:{height}px" viewBox="0 -1.02 {len(vector)} 2.04" role="img" '
        f'preserveAspectRatio="none" aria-label="{len(vector)} dimensions">'
        f'<path class="positive" d="{positive}"/><path class="negative" d="{negative}"/>'
        f'<path class="axis" d="M0 0H{len(vector)}"/></svg>'
    )


def sparkline(values: Sequence[float | None], *, points: int = 60) -> str:
    """Draw the last values as a small line from zero to their maximum, or a dash if none is known."""
    known = [value for value in values if value is not None]
    if not known:
        return '<span class="muted">\N{EM DASH}</span>'
    scale = max(known) or 1
    start = points - len(values)
    coordinates = [
        f"{start + i},{22 - 20 * value / scale:.1f}" for i, value in enumerate(values) if value is not None
    ]
    return (
        f'<svg class="sparkline" viewBox="0 0 {points - 1} 24" preserveAspectRatio="none" aria-hidden="true">'
        f'<polyline points="{" ".join(coordinates)}"/></svg>'
    )


def annotated_image(encoded: bytes, overlays: str, legend: Sequence[tuple[str, float | None]]) -> str:
    """Draw an encoded image with HTML overlays on it and a legend of labels and scores below it."""
    image = decode_image(encoded)
    width, height = image.size
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    webp = io.BytesIO()
    image.save(webp, "WEBP", quality=85)
    source = base64.b64encode(webp.getvalue()).decode()
    items = "".join(
        f'<li><i style="background:{label_colour(label)}"></i>{escape(label)}'
        f"{'' if score is None else f' <small>{format_percent(score)}</small>'}</li>"
        for label, score in legend
    )
    dimensions = f"aspect-ratio:{width}/{height};width:min(100%,{MAX_HEIGHT * width // height}px)"
    return (
        f'<figure class="annotated-image"><div style="{dimensions}">'
        f'<img alt="Input image" src="data:image/webp;base64,{source}">{overlays}</div>'
        f'<figcaption><ul class="legend">{items}</ul></figcaption></figure>'
    )


def bounding_box(label: str, score: float, box: tuple[float, float, float, float]) -> str:
    """Draw a box's frame; `box` is left, top, width and height as fractions of the image."""
    left, top, width, height = (f"{100 * fraction:.2f}%" for fraction in box)
    style = f"left:{left};top:{top};width:{width};height:{height};--label-colour:{label_colour(label)}"
    return f'<div class="box" style="{style}"><span>{escape(label)} {format_percent(score)}</span></div>'


def mask_overlay(label: str, png: str) -> str:
    """Draw a segment's tint; `png` is a grayscale image in base64, white where the segment is."""
    source = f"data:image/png;base64,{escape(''.join(png.split()))}"
    return f'<div class="mask" style="background:{label_colour(label)};mask-image:url({source})"></div>'


def truncate(text: str, length: int) -> str:
    """Cut the text to `length` characters, the last one an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"
