"""Small drawings in HTML: bars, matrices, curves, and things drawn on a picture. All text is escaped."""

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from zlib import crc32

from deployments.media import open_picture

SIDE = 960  # pixels of a picture's longer side, as shown
TALLEST = 460


def colour(label: str) -> str:
    """The label's colour: always the same one, and dark enough for white letters."""
    seed = crc32(label.encode())
    return f"oklch({44 + seed // 360 % 3 * 5}% 0.16 {seed % 360})"


def number(value: float) -> str:
    """A number as people read it: three digits that matter."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def share(value: float) -> str:
    return f"{value:.1%}"


def bars(rows: Sequence[tuple[str, float]], *, coloured: bool = False) -> str:
    """A bar per row, in the order given; shares of 1 as per cent, anything else by its size."""
    shares = all(0 <= value <= 1 for _, value in rows)
    most = 1 if shares else max((abs(value) for _, value in rows), default=1) or 1
    items = (
        f'<li><span class="name">{escape(name)}</span>'
        f'<span class="figure">{share(value) if shares else number(value)}</span>'
        f'<span class="bar"><i class="{"minus" if value < 0 else ""}" style="width:{abs(value) / most:.2%}'
        f'{";background:" + colour(name) if coloured else ""}"></i></span></li>'
        for name, value in rows
    )
    return f'<ol class="bars">{"".join(items)}</ol>'


def matrix(rows: Sequence[Sequence[float]], names: Sequence[str]) -> str:
    """A square of cosines, each cell tinted by its value; `names` number its rows and columns."""
    head = "".join(f'<th scope="col" title="{escape(name)}">{i}</th>' for i, name in enumerate(names, 1))
    body = "".join(
        f'<tr><th scope="row"><b>{i}</b> {escape(short(name, 40))}</th>'
        f"{''.join(f'<td {_tint(value)}>{value:.2f}</td>' for value in row)}</tr>"
        for i, (name, row) in enumerate(zip(names, rows, strict=True), 1)
    )
    return f'<div class="scroll"><table class="matrix"><tr><td></td>{head}</tr>{body}</table></div>'


def _tint(value: float) -> str:
    kind = "var(--plus)" if value >= 0 else "var(--minus)"
    return f'style="background:color-mix(in srgb, {kind} {min(abs(value), 1) * 70:.0f}%, transparent)"'


def cosines(vectors: Sequence[Sequence[float]]) -> list[list[float]]:
    """How near each vector is to each, -1 to 1."""
    lengths = [math.hypot(*vector) or 1.0 for vector in vectors]
    return [
        [sum(map(float.__mul__, a, b)) / (m * n) for b, n in zip(vectors, lengths, strict=True)]
        for a, m in zip(vectors, lengths, strict=True)
    ]


def spectrum(vector: Sequence[float], *, tall: int = 140) -> str:
    """A vector as one line per number, up from zero or down, as wide as there is room."""
    most = max(map(abs, vector), default=0) or 1
    up, down = (
        "".join(f"M{i + 0.5} 0V{-value / most:.3f}" for i, value in enumerate(vector) if value * sign > 0)
        for sign in (1, -1)
    )
    return (
        f'<svg class="spectrum" style="height:{tall}px" viewBox="0 -1.02 {len(vector)} 2.04" role="img" '
        f'preserveAspectRatio="none" aria-label="{len(vector)} numbers"><path class="plus" d="{up}"/>'
        f'<path class="minus" d="{down}"/><path class="axis" d="M0 0H{len(vector)}"/></svg>'
    )


def curve(values: Sequence[float | None], *, points: int = 60) -> str:
    """The last values as a small curve, from zero to their highest; nothing where none is known."""
    known = [value for value in values if value is not None]
    if not known:
        return '<span class="quiet">\N{EM DASH}</span>'
    most = max(known) or 1
    start = points - len(values)
    placed = [
        f"{start + i},{22 - 20 * value / most:.1f}" for i, value in enumerate(values) if value is not None
    ]
    return (
        f'<svg class="curve" viewBox="0 0 {points - 1} 24" preserveAspectRatio="none" aria-hidden="true">'
        f'<polyline points="{" ".join(placed)}"/></svg>'
    )


def on_picture(encoded: bytes, overlays: str, legend: Sequence[tuple[str, float | None]]) -> str:
    """A picture with something drawn on it, and a legend of what it is."""
    picture = open_picture(encoded)
    wide, high = picture.size
    picture.thumbnail((SIDE, SIDE))
    shown = io.BytesIO()
    picture.save(shown, "WEBP", quality=85)
    source = base64.b64encode(shown.getvalue()).decode()
    items = "".join(
        f'<li><i style="background:{colour(label)}"></i>{escape(label)}'
        f"{'' if score is None else f' <small>{share(score)}</small>'}</li>"
        for label, score in legend
    )
    room = f"aspect-ratio:{wide}/{high};width:min(100%,{TALLEST * wide // high}px)"
    return (
        f'<figure class="seen"><div style="{room}">'
        f'<img alt="The picture that was sent" src="data:image/webp;base64,{source}">{overlays}</div>'
        f'<figcaption><ul class="legend">{items}</ul></figcaption></figure>'
    )


def box(label: str, score: float, place: tuple[float, float, float, float]) -> str:
    """A box's frame; `place` is left, top, width and height as shares of the picture."""
    left, top, wide, high = (f"{100 * part:.2f}%" for part in place)
    return (
        f'<div class="box" style="left:{left};top:{top};width:{wide};height:{high};--own:{colour(label)}">'
        f"<span>{escape(label)} {share(score)}</span></div>"
    )


def mask(label: str, png: str) -> str:
    """A region's tint; `png` is a grey picture in base64, white where the region is."""
    source = f"data:image/png;base64,{escape(''.join(png.split()))}"
    return f'<div class="mask" style="background:{colour(label)};mask-image:url({source})"></div>'


def short(text: str, most: int) -> str:
    """The text, or its beginning."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"
