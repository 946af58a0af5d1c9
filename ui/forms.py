"""A form is read off a schema: what a field means decides the widget it gets.

A widget knows how to read itself: what the browser sends becomes what JSON would hold.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image as Pictures

from deployments.schema import Schema, words

LEAVE = "as the model does"
Read = Callable[[Any], Any]
Make = Callable[[dict[str, Any], dict[str, Any]], tuple[gr.components.Component, Read]]


class Blank(Exception):
    """A field that is needed is empty; `str()` says which."""


@dataclass(frozen=True)
class Field:
    """One field of a schema as a widget. `optional` fields that are empty or as given are not sent."""

    name: str
    word: str
    widget: gr.components.Component
    read: Read
    required: bool
    default: Any

    def value(self, sent: Any) -> Any:
        """What JSON would hold, or None where there is nothing to send. Raises `Blank`."""
        value = None if sent is None or sent == "" else self.read(sent)
        if value in (None, [], "") and self.required:
            raise Blank(f"{title(self.name)} is empty: fill it in, or take an example.")
        return None if value in ([], "") or value == self.default else value


def fields(schema: type[Schema]) -> list[Field]:
    """A widget for every field, in the schema's order; made in whatever gradio block is open."""
    found = schema.model_json_schema()
    return [
        _field(schema, name, _plain(spec, found.get("$defs", {})))
        for name, spec in found.get("properties", {}).items()
    ]


def read(fields: Sequence[Field], values: Sequence[Any]) -> dict[str, Any]:
    """What the widgets' values say, without what need not be said. Raises `Blank`."""
    told = {field.name: field.value(value) for field, value in zip(fields, values, strict=True)}
    return {name: value for name, value in told.items() if value is not None}


def write(field: Field, value: Any) -> Any:
    """What the widget shows for a value as JSON would hold it: `read`, backwards."""
    if field.word == "image":
        return None if value is None else Pictures.open(io.BytesIO(base64.b64decode(value)))
    return "\n".join(map(str, value)) if isinstance(value, list) else value


def title(name: str) -> str:
    """A field's name as people read it."""
    return name.replace("_", " ").capitalize()


def _field(schema: type[Schema], name: str, spec: dict[str, Any]) -> Field:
    word = words(schema)[name]
    make: Make = WIDGETS.get("choice" if "enum" in spec else word, _text)
    shown = {"label": title(name), "elem_classes": [f"field-{name.replace('_', '-')}"]}
    widget, read = make(spec, shown)
    required = schema.model_fields[name].is_required()
    return Field(name, word, widget, read, required, spec.get("default"))


def _plain(spec: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """A property without its `anyOf` and `$ref`: `null` tells whether it may be left out."""
    options = spec.get("anyOf", [spec])
    given = next((option for option in options if option.get("type") != "null"), spec)
    given = shared.get(given.get("$ref", "").rpartition("/")[2], given)
    return {**spec, **given, "description": spec.get("description", ""), "null": len(options) > 1}


def _text(spec: dict[str, Any], shown: dict[str, Any]) -> tuple[gr.components.Component, Read]:
    lines = 3 if spec.get("format") == "text" and not spec["null"] else 1
    return gr.Textbox(**shown, info=spec["description"], lines=lines, max_lines=12), str


def _lines(spec: dict[str, Any], shown: dict[str, Any]) -> tuple[gr.components.Component, Read]:
    kind = {"integer": int, "number": float}.get(spec.get("items", {}).get("type", ""), str)
    value = "\n".join(map(str, spec.get("default") or []))
    info = f"{spec['description']} One per line.".strip()
    widget = gr.Textbox(value, **shown, info=info, lines=3 if spec.get("format") == "texts" else 2)
    return widget, lambda sent: [_number(kind, line.strip()) for line in sent.splitlines() if line.strip()]


def _number(kind: Callable[[str], Any], text: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        return text  # which the router refuses in better words than we have
    return value if value not in (inf, -inf) and value == value else text  # JSON holds no such number


def _image(spec: dict[str, Any], shown: dict[str, Any]) -> tuple[gr.components.Component, Read]:
    sources: Any = ["upload", "webcam", "clipboard"]
    widget: Any = gr.Image(
        **shown, sources=sources, type="filepath", format="png", height=320, buttons=["fullscreen"]
    )
    # The file goes on as it was sent: the router judges it, also a broken one, in words.
    widget.preprocess = lambda payload: payload and payload.path
    return widget, lambda sent: base64.b64encode(Path(sent).read_bytes()).decode()


def _numeric(spec: dict[str, Any], shown: dict[str, Any]) -> tuple[gr.components.Component, Read]:
    whole = spec["type"] == "integer"
    low, high, value = spec.get("minimum"), spec.get("maximum"), spec.get("default")
    kind: Read = (lambda sent: round(sent)) if whole else float
    if low is not None and high is not None and value is not None:
        step = 1 if whole else (high - low) / 100
        return gr.Slider(low, high, value, step=step, **shown, info=spec["description"]), kind
    info = f"{spec['description']}{_bounds(spec)}"
    if value is None:  # gradio's number field cannot be empty (6.31: it shows, and sends, a zero)
        unset = gr.Textbox(**shown, info=info, placeholder=LEAVE, max_lines=1)
        return unset, lambda sent: _number(int if whole else float, sent.strip())
    return gr.Number(value, **shown, info=info, step=1 if whole else 0.1), kind


def _bounds(spec: dict[str, Any]) -> str:
    low = spec.get("minimum", spec.get("exclusiveMinimum"))
    high = spec.get("maximum", spec.get("exclusiveMaximum"))
    if low is None or high is None or high > 1_000_000_000:
        return "" if low is None else f" At least {low:,}."
    return f" Between {low:,} and {high:,}."


def _boolean(spec: dict[str, Any], shown: dict[str, Any]) -> tuple[gr.components.Component, Read]:
    if not spec["null"]:
        return gr.Checkbox(bool(spec.get("default")), **shown, info=spec["description"]), bool
    choices: Any = [(LEAVE, ""), "yes", "no"]
    widget = gr.Dropdown(choices, value="", **shown, info=spec["description"])
    return widget, lambda sent: sent == "yes"


def _choice(spec: dict[str, Any], shown: dict[str, Any]) -> tuple[gr.components.Component, Read]:
    given = spec.get("default")
    choices: Any = ([] if given is not None else [(LEAVE, "")]) + spec["enum"]
    return gr.Dropdown(choices, value=given or "", **shown, info=spec["description"]), str


WIDGETS: dict[str, Make] = {
    "text": _text,
    "string": _text,
    "texts": _lines,
    "array": _lines,
    "image": _image,
    "integer": _numeric,
    "number": _numeric,
    "boolean": _boolean,
    "choice": _choice,
}
