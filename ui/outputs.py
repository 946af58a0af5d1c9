"""Display of a model's output: the element type of the output's list decides which renderer draws it."""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, get_args

import gradio as gr
import orjson

from deployments.media import decode_image
from deployments.schema import DetectedObject, Label, Schema, Segment, Vector, field_types
from deployments.task import Task
from ui import charts

MAX_VECTORS = 24  # that are drawn
MAX_JSON_STRING = 2_000  # characters of a string in the displayed JSON
Item = Mapping[str, Any]


def output_component(task: Task) -> gr.components.Component:
    """Create the component that displays the task's output."""
    if text_field(task.output):
        return gr.Textbox(label="Output", lines=5, max_lines=20, interactive=False, buttons=[])
    return gr.HTML(apply_default_css=False, elem_classes=["roster-html", "output"])


def text_field(output: type[Schema]) -> str | None:
    """Return the name of the output's text field, or None if the output is not a text."""
    required = [name for name, field in output.model_fields.items() if field.is_required()]
    return required[0] if required and field_types(output)[required[0]] in ("string", "text") else None


def render(task: Task, item: Item, output: Any, related: Sequence[Sequence[float]] = ()) -> str:
    """Render the output for `item` as the value of `output_component`.

    `related` holds the vectors of the item's texts, for the matrix below a ranking.
    """
    if field := text_field(task.output):
        return str(output[field])
    type_ = element_type(task.output, output)
    if type_ is float and input_texts(task, item):
        return _render_ranking(task, item, output, related)
    return str(RENDERERS.get(type_, _render_json)(task, item, output))


def element_type(schema: type[Schema], output: Any) -> Any:
    """Return the element type of the schema's first list field that the output matches, or None."""
    if not isinstance(output, list):
        return None
    types = [type_ for field in schema.model_fields.values() if (type_ := _list_element(field.annotation))]
    return next((type_ for type_ in types if not output or _matches(type_, output[0])), None)


def _list_element(annotation: Any) -> Any:
    """Return X for `list[X]` and for `list[X] | None`, otherwise None."""
    for option in (annotation, *get_args(annotation)):
        if getattr(option, "__origin__", None) is list:
            return get_args(option)[0]
    return None


def _matches(type_: Any, value: Any) -> bool:
    if type_ is float:
        return isinstance(value, int | float)
    if type_ is Vector:
        return isinstance(value, list)
    return isinstance(value, dict) and type_ in RENDERERS and set(value) <= set(type_.model_fields)


def input_texts(task: Task, item: Item) -> list[str]:
    """Return the texts of the item's list fields, each of which has its own element in the output."""
    return [
        text
        for name, type_ in field_types(task.input).items()
        if type_ == "texts"
        for text in item.get(name, [])
    ]


def to_json(output: Any) -> str:
    """Format the output as indented JSON, with long strings (base64) shortened."""
    return orjson.dumps(_shorten_strings(output), option=orjson.OPT_INDENT_2).decode()


def _shorten_strings(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_JSON_STRING:
        return f"{value[:60]}\N{HORIZONTAL ELLIPSIS} ({len(value):,} characters)"
    if isinstance(value, dict):
        return {name: _shorten_strings(member) for name, member in value.items()}
    return [_shorten_strings(element) for element in value] if isinstance(value, list) else value


def _render_labels(task: Task, item: Item, labels: list[dict[str, Any]]) -> str:
    return charts.bar_chart([(label["label"], label["score"]) for label in labels], coloured=True)


def _input_image(task: Task, item: Item) -> bytes:
    name = next(name for name, type_ in field_types(task.input).items() if type_ == "image")
    return base64.b64decode(item[name])


def _render_objects(task: Task, item: Item, objects: list[dict[str, Any]]) -> str:
    encoded = _input_image(task, item)
    size = decode_image(encoded).size
    overlays = "".join(
        charts.bounding_box(object_["label"], object_["score"], _relative_box(object_["box"], *size))
        for object_ in objects
    )
    image = charts.annotated_image(encoded, overlays, _legend(objects))
    hint = "No objects detected. A lower threshold includes detections with lower scores."
    return image + ("" if objects else _hint(hint))


def _relative_box(box: Mapping[str, float], width: int, height: int) -> tuple[float, float, float, float]:
    """Convert a box in pixels to left, top, width and height as fractions of the image."""
    left, top = box["xmin"] / width, box["ymin"] / height
    return left, top, (box["xmax"] - box["xmin"]) / width, (box["ymax"] - box["ymin"]) / height


def _render_segments(task: Task, item: Item, segments: list[dict[str, Any]]) -> str:
    overlays = "".join(charts.mask_overlay(segment["label"], segment["mask"]) for segment in segments)
    image = charts.annotated_image(_input_image(task, item), overlays, _legend(segments))
    return image + ("" if segments else _hint("No segments found."))


def _legend(elements: list[dict[str, Any]]) -> list[tuple[str, float | None]]:
    """Return each label once, with its highest score."""
    scores: dict[str, float | None] = {}
    for element in elements:
        label = element["label"]
        scores[label] = max(filter(None, (scores.get(label), element.get("score"))), default=None)
    return list(scores.items())


def _render_vector(task: Task, item: Item, vector: list[float]) -> str:
    norm, low, high = (
        charts.format_number(value)
        for value in (math.hypot(*vector), min(vector, default=0), max(vector, default=0))
    )
    caption = f"{len(vector):,} dimensions, L2 norm {norm}, values from {low} to {high}"
    return _hint(caption) + charts.vector_plot(vector)


def _render_vectors(task: Task, item: Item, vectors: list[list[float]]) -> str:
    names = input_texts(task, item) or [f"vector {index}" for index in range(1, len(vectors) + 1)]
    drawn = vectors[:MAX_VECTORS]
    caption = f"{len(vectors):,} vectors of {len(vectors[0]) if vectors else 0:,} dimensions"
    limit = f"; the first {len(drawn)} are shown" if len(drawn) < len(vectors) else ""
    plots = "".join(charts.vector_plot(vector, height=28) for vector in drawn)
    matrix = charts.similarity_matrix(charts.cosine_similarities(drawn), names[: len(drawn)])
    return f"{_hint(caption + limit)}{plots}<h4>Cosine similarity of the vectors</h4>{matrix}"


def _render_ranking(task: Task, item: Item, scores: list[float], related: Sequence[Sequence[float]]) -> str:
    texts = input_texts(task, item)
    ranking = charts.bar_chart(sorted(zip(texts, scores, strict=True), key=lambda pair: -pair[1]))
    if not related:
        return ranking
    sources = [item[name] for name, type_ in field_types(task.input).items() if type_ == "text"]
    matrix = charts.similarity_matrix(charts.cosine_similarities(related), [*sources, *texts])
    return f"{ranking}<h4>Cosine similarity of all pairs</h4>{matrix}"


def _render_json(task: Task, item: Item, output: Any) -> str:
    return f'<pre class="json-output">{escape(to_json(output))}</pre>'


def _hint(text: str) -> str:
    return f'<p class="muted">{text}</p>'


RENDERERS: dict[Any, Any] = {
    Label: _render_labels,
    DetectedObject: _render_objects,
    Segment: _render_segments,
    Vector: _render_vectors,
    float: _render_vector,
}
