"""Forms derived from a schema: the schema type of a field selects its widget.

Each field also has a parser that turns the widget's value into the field's JSON value.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from deployments.schema import Schema, field_types

MODEL_DEFAULT = "model default"
Parser = Callable[[Any], Any]
WidgetFactory = Callable[[dict[str, Any], dict[str, Any]], tuple[gr.components.Component, Parser]]


class MissingInput(Exception):
    """A required field is empty; `str()` is a sentence that names the field."""


@dataclass(frozen=True)
class Field:
    """One schema field and its widget. An optional field that is empty or has its default is not sent."""

    name: str
    schema_type: str
    widget: gr.components.Component
    parse: Parser
    required: bool
    default: Any

    def json_value(self, widget_value: Any) -> Any:
        """Return the JSON value, or None to leave the field out. Raises `MissingInput`."""
        value = None if widget_value is None or widget_value == "" else self.parse(widget_value)
        if value in (None, [], "") and self.required:
            raise MissingInput(f"{field_label(self.name)} is empty. Enter a value or choose an example.")
        return None if value in ([], "") or value == self.default else value


def build_fields(schema: type[Schema]) -> list[Field]:
    """Create a widget for every field of the schema, in its order, in the current gradio block."""
    json_schema = schema.model_json_schema()
    return [
        _build_field(schema, name, _resolve_property(spec, json_schema.get("$defs", {})))
        for name, spec in json_schema.get("properties", {}).items()
    ]


def parse_form(fields: Sequence[Field], widget_values: Sequence[Any]) -> dict[str, Any]:
    """Return the JSON values of the fields that have to be sent. Raises `MissingInput`."""
    values = {field.name: field.json_value(value) for field, value in zip(fields, widget_values, strict=True)}
    return {name: value for name, value in values.items() if value is not None}


def to_widget_value(field: Field, json_value: Any) -> Any:
    """Convert a JSON value to the value of the field's widget: the inverse of `Field.json_value`."""
    if field.schema_type == "image":
        return None if json_value is None else Image.open(io.BytesIO(base64.b64decode(json_value)))
    return "\n".join(map(str, json_value)) if isinstance(json_value, list) else json_value


def field_label(name: str) -> str:
    """Return the label of a field: "Max new tokens" for "max_new_tokens"."""
    return name.replace("_", " ").capitalize()


def _build_field(schema: type[Schema], name: str, spec: dict[str, Any]) -> Field:
    schema_type = field_types(schema)[name]
    create: WidgetFactory = WIDGETS.get("choice" if "enum" in spec else schema_type, _text)
    options = {"label": field_label(name), "elem_classes": [f"field-{name.replace('_', '-')}"]}
    widget, parse = create(spec, options)
    required = schema.model_fields[name].is_required()
    return Field(name, schema_type, widget, parse, required, spec.get("default"))


def _resolve_property(spec: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Merge the property's `anyOf` and `$ref` into it; `null` says whether its value may be null."""
    options = spec.get("anyOf", [spec])
    option = next((option for option in options if option.get("type") != "null"), spec)
    option = definitions.get(option.get("$ref", "").rpartition("/")[2], option)
    return {**spec, **option, "description": spec.get("description", ""), "null": len(options) > 1}


def _text(spec: dict[str, Any], options: dict[str, Any]) -> tuple[gr.components.Component, Parser]:
    lines = 3 if spec.get("format") == "text" and not spec["null"] else 1
    return gr.Textbox(**options, info=spec["description"], lines=lines, max_lines=12), str


def _text_list(spec: dict[str, Any], options: dict[str, Any]) -> tuple[gr.components.Component, Parser]:
    element = {"integer": int, "number": float}.get(spec.get("items", {}).get("type", ""), str)
    value = "\n".join(map(str, spec.get("default") or []))
    info = f"{spec['description']} One per line.".strip()
    widget = gr.Textbox(value, **options, info=info, lines=3 if spec.get("format") == "texts" else 2)
    return widget, lambda text: [
        _parse_number(element, line.strip()) for line in text.splitlines() if line.strip()
    ]


def _parse_number(type_: Callable[[str], Any], text: str) -> Any:
    """Parse the number; return the text if it is none, for the gateway refuses it with a better message."""
    try:
        value = type_(text)
    except ValueError:
        return text
    return value if value not in (inf, -inf) and value == value else text  # JSON has no infinity and no NaN


def _image(spec: dict[str, Any], options: dict[str, Any]) -> tuple[gr.components.Component, Parser]:
    sources: Any = ["upload", "webcam", "clipboard"]
    widget: Any = gr.Image(
        **options, sources=sources, type="filepath", format="png", height=320, buttons=["fullscreen"]
    )
    # Gradio would decode the file here; the gateway validates images, with a message for a broken one.
    widget.preprocess = lambda payload: payload and payload.path
    return widget, lambda path: base64.b64encode(Path(path).read_bytes()).decode()


def _number(spec: dict[str, Any], options: dict[str, Any]) -> tuple[gr.components.Component, Parser]:
    integer = spec["type"] == "integer"
    low, high, value = spec.get("minimum"), spec.get("maximum"), spec.get("default")
    parse: Parser = (lambda number: round(number)) if integer else float
    if low is not None and high is not None and value is not None:
        step = 1 if integer else (high - low) / 100
        return gr.Slider(low, high, value, step=step, **options, info=spec["description"]), parse
    info = f"{spec['description']}{_bounds(spec)}"
    if value is None:  # gr.Number cannot be empty: it displays and sends zero (gradio 6.31)
        textbox = gr.Textbox(**options, info=info, placeholder=MODEL_DEFAULT, max_lines=1)
        return textbox, lambda text: _parse_number(int if integer else float, text.strip())
    return gr.Number(value, **options, info=info, step=1 if integer else 0.1), parse


def _bounds(spec: dict[str, Any]) -> str:
    low = spec.get("minimum", spec.get("exclusiveMinimum"))
    high = spec.get("maximum", spec.get("exclusiveMaximum"))
    if low is None or high is None or high > 1_000_000_000:
        return "" if low is None else f" At least {low:,}."
    return f" Between {low:,} and {high:,}."


def _boolean(spec: dict[str, Any], options: dict[str, Any]) -> tuple[gr.components.Component, Parser]:
    if not spec["null"]:
        return gr.Checkbox(bool(spec.get("default")), **options, info=spec["description"]), bool
    choices: Any = [(MODEL_DEFAULT, ""), "yes", "no"]
    widget = gr.Dropdown(choices, value="", **options, info=spec["description"])
    return widget, lambda choice: choice == "yes"


def _choice(spec: dict[str, Any], options: dict[str, Any]) -> tuple[gr.components.Component, Parser]:
    default = spec.get("default")
    choices: Any = ([] if default is not None else [(MODEL_DEFAULT, "")]) + spec["enum"]
    return gr.Dropdown(choices, value=default or "", **options, info=spec["description"]), str


WIDGETS: dict[str, WidgetFactory] = {
    "text": _text,
    "string": _text,
    "texts": _text_list,
    "array": _text_list,
    "image": _image,
    "integer": _number,
    "number": _number,
    "boolean": _boolean,
    "choice": _choice,
}
