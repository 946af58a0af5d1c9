"""Rendering of outputs by element type; no text of an output is interpreted as HTML."""

import base64

import pytest

from deployments.schema import DetectedObject, Label, Segment, Vector
from deployments.task import TASKS
from tests.ui.ui_server import encoded_image, encoded_mask
from ui import charts, outputs

ITEM = {"image": base64.b64encode(encoded_image()).decode()}
SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("name", "output", "type_"),
    [
        ("sentiment", [{"label": "a", "score": 0.5}], Label),
        ("object-detection", [], DetectedObject),
        ("image-segmentation", [{"label": "a", "mask": ""}], Segment),
        ("embeddings", [0.5, 1], float),
        ("embeddings", [[0.5, 1.0]], Vector),
        ("sentence-similarity", [0.5], float),
        ("sentence-similarity", [[0.5]], Vector),
        ("summarization", {"summary_text": "a"}, None),
    ],
)
def test_element_type_of_an_output(name: str, output: object, type_: object) -> None:
    assert outputs.element_type(TASKS[name].output, output) is type_


def test_labels_render_as_bars_with_a_colour_per_label() -> None:
    html = outputs.render(TASKS["sentiment"], {"text": "x"}, [{"label": SCRIPT, "score": 0.25}])
    assert "25.0%" in html
    assert "<script>" not in html
    assert charts.label_colour("cat") == charts.label_colour("cat") != charts.label_colour("dog")


def test_bar_chart_scales_values_outside_0_to_1() -> None:
    html = charts.bar_chart([("a", 4.0), ("b", -2.0)])
    assert 'class="negative" style="width:50.00%' in html
    assert "-2" in html


def test_objects_render_as_boxes_relative_to_the_image() -> None:
    box = {"xmin": 32, "ymin": 20, "xmax": 160, "ymax": 100}
    html = outputs.render(TASKS["object-detection"], ITEM, [{"label": SCRIPT, "score": 0.9, "box": box}])
    assert "left:10.00%;top:10.00%;width:40.00%;height:40.00%" in html
    assert "<script>" not in html
    assert "No objects detected" in outputs.render(TASKS["object-detection"], ITEM, [])


def test_segments_render_as_masks_with_one_legend_entry_per_label() -> None:
    png = base64.b64encode(encoded_mask(0, 0, 9, 9)).decode()
    scores: list[dict[str, float]] = [{}, {"score": 0.9}, {"score": 0.8}]
    segments = [{"label": "sky", "mask": png, **score} for score in scores]
    html = outputs.render(TASKS["image-segmentation"], ITEM, segments)
    assert html.count('class="mask"') == 3
    assert html.count("<li>") == 1
    assert "90.0%" in html


def test_similarities_render_as_a_ranking_and_a_matrix() -> None:
    item = {"source_sentence": "s", "sentences": ["far", "near"]}
    task = TASKS["sentence-similarity"]
    html = outputs.render(task, item, [0.1, 0.8], [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert html.index("near") < html.index("far")
    assert html.count("<td ") == 9
    assert "<table" not in outputs.render(task, item, [0.1, 0.8])


def test_vectors_render_with_their_statistics() -> None:
    html = outputs.render(TASKS["embeddings"], {"text": "x"}, [3.0, -4.0])
    assert "2 dimensions, L2 norm 5, values from -4 to 3" in html
    html = outputs.render(TASKS["embeddings"], {"text": "x"}, [[1.0, 0.0], [0.0, 1.0]])
    assert "2 vectors of 2 dimensions" in html


def test_output_of_an_unknown_type_renders_as_escaped_json() -> None:
    html = outputs.render(TASKS["sentiment"], {}, {"html": SCRIPT})
    assert "json-output" in html
    assert SCRIPT not in html


def test_json_shortens_long_strings_only() -> None:
    assert outputs.to_json({"a": [1.5] * 3, "b": "x" * 3000}).count("1.5") == 3
    assert "(3,000 characters)" in outputs.to_json("x" * 3000)
