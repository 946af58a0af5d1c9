"""Forms derived from a schema, and the parsers of their widgets.

Gradio leaves event loops open if a page is built outside of a running loop, so all code that builds one is
async here.
"""

from typing import Literal

import gradio as gr
import pytest
from pydantic import Field

from deployments.media import EXAMPLE_IMAGE as EXAMPLE_IMAGE
from deployments.schema import Image, Schema, Text, Texts, Unit
from deployments.task import TASKS
from ui import forms
from ui.form_tab import runs_on_change
from ui.forms import MissingInput


class AllTypes(Schema):
    text: Text = Field(description="A text.")
    several: Texts
    image: Image
    fraction: Unit = 0.5
    count: int = Field(5, ge=1)
    bounded: int = Field(3, ge=1, le=9)
    optional_number: float | None = Field(None, gt=0, le=2)
    flag: bool = True
    optional_flag: bool | None = None
    optional_choice: Literal["a", "b"] | None = None
    choice: Literal["left", "right"] = "right"
    strings: list[str] = []
    optional_string: str | None = None


@pytest.fixture
async def all_types() -> dict[str, forms.Field]:
    with gr.Blocks():
        return {field.name: field for field in forms.build_fields(AllTypes)}


def test_schema_type_selects_the_widget(all_types: dict[str, forms.Field]) -> None:
    widgets = {name: type(field.widget) for name, field in all_types.items()}
    assert widgets == {
        "text": gr.Textbox,
        "several": gr.Textbox,
        "image": gr.Image,
        "fraction": gr.Slider,
        "count": gr.Number,
        "bounded": gr.Slider,
        "optional_number": gr.Textbox,
        "flag": gr.Checkbox,
        "optional_flag": gr.Dropdown,
        "optional_choice": gr.Dropdown,
        "choice": gr.Dropdown,
        "strings": gr.Textbox,
        "optional_string": gr.Textbox,
    }
    assert all(field.widget.label for field in all_types.values())
    assert all_types["image"].widget.sources == ["upload", "webcam", "clipboard"]
    assert all_types["optional_number"].widget.info == " Between 0 and 2."


@pytest.mark.parametrize(
    ("name", "widget_value", "json_value"),
    [
        ("text", "hello", "hello"),
        ("several", "one\n\n two \n", ["one", "two"]),
        ("fraction", 0.5, None),
        ("fraction", 0.75, 0.75),
        ("count", 7, 7),
        ("optional_number", "", None),
        ("optional_number", " 1.5 ", 1.5),
        ("optional_number", "much", "much"),
        ("flag", True, None),
        ("flag", False, False),
        ("optional_flag", "", None),
        ("optional_flag", "no", False),
        ("optional_choice", "", None),
        ("optional_choice", "b", "b"),
        ("choice", "right", None),
        ("strings", "", None),
        ("strings", "x\ny", ["x", "y"]),
        ("optional_string", "", None),
    ],
)
def test_field_converts_widget_value_to_json(
    all_types: dict[str, forms.Field], name: str, widget_value: object, json_value: object
) -> None:
    assert all_types[name].json_value(widget_value) == json_value


def test_empty_required_field_raises_missing_input(all_types: dict[str, forms.Field]) -> None:
    with pytest.raises(MissingInput, match="Several is empty"):
        all_types["several"].json_value("\n")
    with pytest.raises(MissingInput, match="Image is empty"):
        all_types["image"].json_value(None)


def test_json_value_converts_to_widget_value(all_types: dict[str, forms.Field]) -> None:
    assert forms.to_widget_value(all_types["several"], ["a", "b"]) == "a\nb"
    assert forms.to_widget_value(all_types["image"], EXAMPLE_IMAGE).size == (64, 64)


@pytest.mark.parametrize("name", list(TASKS))
async def test_default_parameters_are_not_sent(name: str) -> None:
    with gr.Blocks():
        fields = forms.build_fields(TASKS[name].params)
    assert forms.parse_form(fields, [getattr(field.widget, "value", None) for field in fields]) == {}


def test_only_tasks_that_score_text_run_on_change() -> None:
    assert {name for name, task in TASKS.items() if runs_on_change(task)} == {
        "embeddings",
        "sentence-similarity",
        "sentiment",
    }
