"""A form is read off a schema, and reads itself.

Where gradio makes a page outside of a running loop, it leaves loops open: whatever makes one here is async.
"""

from typing import Literal

import gradio as gr
import pytest
from pydantic import Field

from deployments.media import EXAMPLE_PICTURE
from deployments.schema import Image, Schema, Text, Texts, Unit
from deployments.task import TASKS
from ui import forms
from ui.form_tab import is_quick
from ui.forms import Blank


class Everything(Schema):
    text: Text = Field(description="A text.")
    several: Texts
    image: Image
    share: Unit = 0.5
    count: int = Field(5, ge=1)
    bounded: int = Field(3, ge=1, le=9)
    open: float | None = Field(None, gt=0, le=2)
    flag: bool = True
    maybe: bool | None = None
    kind: Literal["a", "b"] | None = None
    side: Literal["left", "right"] = "right"
    stops: list[str] = []
    name: str | None = None


@pytest.fixture
async def everything() -> dict[str, forms.Field]:
    with gr.Blocks():
        return {field.name: field for field in forms.fields(Everything)}


def test_a_field_gets_the_widget_of_what_it_means(everything: dict[str, forms.Field]) -> None:
    kinds = {name: type(field.widget) for name, field in everything.items()}
    assert kinds == {
        "text": gr.Textbox,
        "several": gr.Textbox,
        "image": gr.Image,
        "share": gr.Slider,
        "count": gr.Number,
        "bounded": gr.Slider,
        "open": gr.Textbox,
        "flag": gr.Checkbox,
        "maybe": gr.Dropdown,
        "kind": gr.Dropdown,
        "side": gr.Dropdown,
        "stops": gr.Textbox,
        "name": gr.Textbox,
    }
    assert all(field.widget.label for field in everything.values())
    assert everything["image"].widget.sources == ["upload", "webcam", "clipboard"]
    assert everything["open"].widget.info == " Between 0 and 2."


@pytest.mark.parametrize(
    ("name", "sent", "value"),
    [
        ("text", "hello", "hello"),
        ("several", "one\n\n two \n", ["one", "two"]),
        ("share", 0.5, None),
        ("share", 0.75, 0.75),
        ("count", 7, 7),
        ("open", "", None),
        ("open", " 1.5 ", 1.5),
        ("open", "much", "much"),
        ("flag", True, None),
        ("flag", False, False),
        ("maybe", "", None),
        ("maybe", "no", False),
        ("kind", "", None),
        ("kind", "b", "b"),
        ("side", "right", None),
        ("stops", "", None),
        ("stops", "x\ny", ["x", "y"]),
        ("name", "", None),
    ],
)
def test_a_widget_reads_itself(
    everything: dict[str, forms.Field], name: str, sent: object, value: object
) -> None:
    assert everything[name].value(sent) == value


def test_what_is_needed_and_empty_is_said(everything: dict[str, forms.Field]) -> None:
    with pytest.raises(Blank, match="Several is empty"):
        everything["several"].value("\n")
    with pytest.raises(Blank, match="Image is empty"):
        everything["image"].value(None)


def test_an_example_fills_its_widget(everything: dict[str, forms.Field]) -> None:
    assert forms.write(everything["several"], ["a", "b"]) == "a\nb"
    assert forms.write(everything["image"], EXAMPLE_PICTURE).size == (64, 64)


@pytest.mark.parametrize("name", list(TASKS))
async def test_every_tasks_parameters_are_silent_by_default(name: str) -> None:
    with gr.Blocks():
        fields = forms.fields(TASKS[name].params)
    assert forms.read(fields, [getattr(field.widget, "value", None) for field in fields]) == {}


def test_what_is_judged_is_quick_and_what_is_written_is_not() -> None:
    assert {name for name, task in TASKS.items() if is_quick(task)} == {
        "embeddings",
        "sentence-similarity",
        "sentiment",
    }
