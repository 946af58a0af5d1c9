"""An answer as people want to see it: what the output's fields are lists of decides how it is drawn."""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, get_args

import gradio as gr
import orjson

from deployments.media import open_picture
from deployments.schema import DetectedObject, Label, Schema, Segment, Vector, words
from deployments.task import Task
from ui import charts as drawing

SHOWN_VECTORS = 24
LONGEST = 2_000  # of a string in the JSON that is shown
Item = Mapping[str, Any]


def component(task: Task) -> gr.components.Component:
    """Where the task's answers are shown."""
    if text_field(task.output):
        return gr.Textbox(label="Answer", lines=5, max_lines=20, interactive=False, buttons=[])
    return gr.HTML(apply_default_css=False, elem_classes=["own", "answer"])


def text_field(output: type[Schema]) -> str | None:
    """The field that is the answer, where an answer is a text."""
    required = [name for name, field in output.model_fields.items() if field.is_required()]
    return required[0] if required and words(output)[required[0]] in ("string", "text") else None


def show(task: Task, item: Item, answer: Any, related: Sequence[Sequence[float]] = ()) -> str:
    """The answer to `item`, as the task's `component` shows it; `related` are vectors of the item's texts."""
    if field := text_field(task.output):
        return str(answer[field])
    kind = element(task.output, answer)
    if kind is float and texts(task, item):
        return _ranking(task, item, answer, related)
    return str(VIEWS.get(kind, _other)(task, item, answer))


def element(output: type[Schema], answer: Any) -> Any:
    """What the answer is a list of: what one of the output's fields says, and the answer bears out."""
    if not isinstance(answer, list):
        return None
    kinds = [kind for field in output.model_fields.values() if (kind := _listed(field.annotation))]
    fits = [kind for kind in kinds if not answer or _fits(kind, answer[0])]
    return fits[0] if fits else None


def _listed(annotation: Any) -> Any:
    """What `annotation` is a list of; also where it may be None."""
    for option in (annotation, *get_args(annotation)):
        if getattr(option, "__origin__", None) is list:
            return get_args(option)[0]
    return None


def _fits(kind: Any, value: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float)
    if kind is Vector:
        return isinstance(value, list)
    return isinstance(value, dict) and kind in VIEWS and set(value) <= set(kind.model_fields)


def texts(task: Task, item: Item) -> list[str]:
    """The item's lists of texts, where each text has an answer of its own."""
    return [
        text for name, word in words(task.input).items() if word == "texts" for text in item.get(name, [])
    ]


def as_json(answer: Any) -> str:
    """The answer's JSON, indented; strings that nobody reads are cut."""
    return orjson.dumps(_cut(answer), option=orjson.OPT_INDENT_2).decode()


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST:
        return f"{value[:60]}\N{HORIZONTAL ELLIPSIS} ({len(value):,} characters)"
    if isinstance(value, dict):
        return {name: _cut(one) for name, one in value.items()}
    return [_cut(one) for one in value] if isinstance(value, list) else value


def _labels(task: Task, item: Item, answer: list[dict[str, Any]]) -> str:
    return drawing.bars([(one["label"], one["score"]) for one in answer], coloured=True)


def _picture(task: Task, item: Item) -> bytes:
    name = next(name for name, word in words(task.input).items() if word == "image")
    return base64.b64decode(item[name])


def _objects(task: Task, item: Item, answer: list[dict[str, Any]]) -> str:
    encoded = _picture(task, item)
    wide, high = open_picture(encoded).size
    overlays = "".join(
        drawing.box(
            one["label"],
            one["score"],
            (
                one["box"]["xmin"] / wide,
                one["box"]["ymin"] / high,
                (one["box"]["xmax"] - one["box"]["xmin"]) / wide,
                (one["box"]["ymax"] - one["box"]["ymin"]) / high,
            ),
        )
        for one in answer
    )
    found = drawing.on_picture(encoded, overlays, _legend(answer))
    return found + ("" if answer else _nothing("Nothing was found: a lower threshold shows less sure ones."))


def _segments(task: Task, item: Item, answer: list[dict[str, Any]]) -> str:
    overlays = "".join(drawing.mask(one["label"], one["mask"]) for one in answer)
    found = drawing.on_picture(_picture(task, item), overlays, _legend(answer))
    return found + ("" if answer else _nothing("No region was found."))


def _legend(answer: list[dict[str, Any]]) -> list[tuple[str, float | None]]:
    """Each label once, with its best score."""
    best: dict[str, float | None] = {}
    for one in answer:
        best[one["label"]] = max(filter(None, (best.get(one["label"]), one["score"])), default=None)
    return list(best.items())


def _vector(task: Task, item: Item, answer: list[float]) -> str:
    least, most = min(answer, default=0), max(answer, default=0)
    told = (
        f"{len(answer):,} numbers, of length {drawing.number(math.hypot(*answer))}: "
        f"from {drawing.number(least)} to {drawing.number(most)}"
    )
    return f'<p class="quiet">{told}</p>{drawing.spectrum(answer)}'


def _vectors(task: Task, item: Item, answer: list[list[float]]) -> str:
    names = texts(task, item) or [f"vector {place}" for place in range(1, len(answer) + 1)]
    few = answer[:SHOWN_VECTORS]
    told = f"{len(answer):,} vectors of {len(answer[0]) if answer else 0:,} numbers"
    cut = f"; the first {len(few)} are shown" if len(few) < len(answer) else ""
    lines = "".join(drawing.spectrum(vector, tall=28) for vector in few)
    near = drawing.matrix(drawing.cosines(few), names[: len(few)])
    return f'<p class="quiet">{told}{cut}</p>{lines}<h4>How near they are to each other</h4>{near}'


def _ranking(task: Task, item: Item, answer: list[float], related: Sequence[Sequence[float]]) -> str:
    compared = texts(task, item)
    ranked = sorted(zip(compared, answer, strict=True), key=lambda pair: -pair[1])
    every = [text for name, word in words(task.input).items() if word == "text" for text in [item[name]]]
    near = drawing.matrix(drawing.cosines(related), [*every, *compared]) if related else ""
    return drawing.bars(ranked) + (f"<h4>Each with each</h4>{near}" if near else "")


def _other(task: Task, item: Item, answer: Any) -> str:
    return f'<pre class="other">{escape(as_json(answer))}</pre>'


def _nothing(sentence: str) -> str:
    return f'<p class="quiet">{sentence}</p>'


VIEWS: dict[Any, Any] = {
    Label: _labels,
    DetectedObject: _objects,
    Segment: _segments,
    Vector: _vectors,
    float: _vector,
}
