"""An answer is drawn by what it is a list of; nothing in it is ever markup."""

import base64

import pytest

from deployments.schema import DetectedObject, Label, Segment, Vector
from deployments.task import TASKS
from tests.ui.ui_server import mask, picture
from ui import charts as drawing
from ui import outputs as views

ITEM = {"image": base64.b64encode(picture()).decode()}
EVIL = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("name", "answer", "kind"),
    [
        ("sentiment", [{"label": "a", "score": 0.5}], Label),
        ("object-detection", [], DetectedObject),
        ("image-segmentation", [{"label": "a", "score": None, "mask": ""}], Segment),
        ("embeddings", [0.5, 1], float),
        ("embeddings", [[0.5, 1.0]], Vector),
        ("sentence-similarity", [0.5], float),
        ("sentence-similarity", [[0.5]], Vector),
        ("summarization", {"summary_text": "a"}, None),
    ],
)
def test_what_an_answer_is_a_list_of(name: str, answer: object, kind: object) -> None:
    assert views.element(TASKS[name].output, answer) is kind


def test_labels_are_bars_in_their_order_and_own_colours() -> None:
    shown = views.show(TASKS["sentiment"], {"text": "x"}, [{"label": EVIL, "score": 0.25}])
    assert "25.0%" in shown
    assert "<script>" not in shown
    assert drawing.colour("cat") == drawing.colour("cat") != drawing.colour("dog")


def test_scores_that_are_no_shares_are_drawn_by_size() -> None:
    shown = drawing.bars([("a", 4.0), ("b", -2.0)])
    assert 'class="minus" style="width:50.00%' in shown
    assert "-2" in shown


def test_boxes_lie_where_they_are_on_any_size() -> None:
    box = {"xmin": 32, "ymin": 20, "xmax": 160, "ymax": 100}
    shown = views.show(TASKS["object-detection"], ITEM, [{"label": EVIL, "score": 0.9, "box": box}])
    assert "left:10.00%;top:10.00%;width:40.00%;height:40.00%" in shown
    assert "<script>" not in shown
    assert "Nothing was found" in views.show(TASKS["object-detection"], ITEM, [])


def test_masks_are_laid_over_and_named_once() -> None:
    png = base64.b64encode(mask(0, 0, 9, 9)).decode()
    found = [{"label": "sky", "score": score, "mask": png} for score in (None, 0.9, 0.8)]
    shown = views.show(TASKS["image-segmentation"], ITEM, found)
    assert shown.count('class="mask"') == 3
    assert shown.count("<li>") == 1
    assert "90.0%" in shown


def test_similarities_are_ranked_and_compared_each_with_each() -> None:
    item = {"source_sentence": "s", "sentences": ["far", "near"]}
    task = TASKS["sentence-similarity"]
    shown = views.show(task, item, [0.1, 0.8], [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert shown.index("near") < shown.index("far")
    assert shown.count("<td ") == 9
    assert "<table" not in views.show(task, item, [0.1, 0.8])


def test_a_vector_is_a_picture_of_its_numbers() -> None:
    shown = views.show(TASKS["embeddings"], {"text": "x"}, [3.0, -4.0])
    assert "2 numbers, of length 5: from -4 to 3" in shown
    several = views.show(TASKS["embeddings"], {"text": "x"}, [[1.0, 0.0], [0.0, 1.0]])
    assert "2 vectors of 2 numbers" in several


def test_an_answer_in_other_words_is_shown_as_it_is() -> None:
    assert EVIL not in views._other(TASKS["sentiment"], {}, {"html": EVIL})


def test_json_is_whole_but_for_what_nobody_reads() -> None:
    assert views.as_json({"a": [1.5] * 3, "b": "x" * 3000}).count("1.5") == 3
    assert "(3,000 characters)" in views.as_json("x" * 3000)
