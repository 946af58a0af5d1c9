"""The examples of every task, which the UI and the API show: the starter model answers each of them well."""

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deployments.task import MODULES
from deployments.tasks.conversational import Conversational
from deployments.tasks.embeddings import Embeddings, EmbeddingsInput, EmbeddingsParams
from deployments.tasks.image_classification import ImageClassification
from deployments.tasks.image_segmentation import ImageSegmentation
from deployments.tasks.object_detection import ObjectDetection
from deployments.tasks.sentence_similarity import SentenceSimilarity
from deployments.tasks.sentiment import Sentiment
from deployments.tasks.summarization import Summarization
from deployments.tasks.text_generation import TextGeneration
from tests.loaded_models import answers, starter

pytestmark = pytest.mark.model  # loads weights: `make check` leaves these to `make test`

CIRCLE = (22, 9, 54, 41)  # the box of the circle in the example image, in pixels
SEEDS = range(5)
Check = Callable[[Any], None]


def best_label(label: str) -> Check:
    def check(output: Any) -> None:
        assert output.labels[0].label == label
        assert output.labels[0].score > 0.9

    return check


def text(pattern: str) -> Check:
    def check(output: Any) -> None:
        generated = getattr(output, "summary_text", None) or output.generated_text
        assert re.fullmatch(pattern, generated), generated

    return check


def nearest(sentence: int) -> Check:
    def check(output: Any) -> None:
        others = [score for index, score in enumerate(output.similarities) if index != sentence]
        assert output.similarities[sentence] > 0.5 > 0.3 > max(others)

    return check


def same_meaning_as(paraphrase: str, *, unlike: str) -> Check:
    def check(output: Any) -> None:
        inputs = [EmbeddingsInput(text=paraphrase), EmbeddingsInput(text=unlike)]
        near, far = answers(starter(Embeddings.module_id), inputs, EmbeddingsParams())
        assert np.dot(output.embedding, near.embedding) > 0.6 > 0.3 > np.dot(output.embedding, far.embedding)

    return check


def finds_the_circle(output: Any) -> None:
    [found] = output.objects
    assert (found.label, [*found.box.model_dump().values()]) == ("circle", pytest.approx(CIRCLE, abs=3))


def covers_the_circle(output: Any) -> None:
    masks = {segment.label: Image.open(io.BytesIO(segment.mask)) for segment in output.segments}
    assert masks.keys() == {"circle", "background"}
    drawn = np.asarray(masks["circle"])
    left, top, right, bottom = CIRCLE
    area = np.pi / 4 * (right - left) * (bottom - top)
    assert (drawn > 0).sum() == pytest.approx(area, rel=0.15)
    assert drawn[(top + bottom) // 2, (left + right) // 2] == 255
    assert drawn[0, 0] == 0


EXPECTED: dict[str, list[Check]] = {
    Conversational.module_id: [text("I am fine, thank you! How are you\\?"), text("Your name is Anna\\.")],
    Embeddings.module_id: [
        same_meaning_as("The cat is on the mat.", unlike="Where is my parcel?"),
        same_meaning_as("On Monday, share prices dropped.", unlike="A cat sat on the mat."),
    ],
    ImageClassification.module_id: [best_label("circle")],
    ImageSegmentation.module_id: [covers_the_circle],
    ObjectDetection.module_id: [finds_the_circle],
    SentenceSimilarity.module_id: [nearest(0), nearest(0)],
    Sentiment.module_id: [best_label("POSITIVE"), best_label("NEGATIVE")],
    Summarization.module_id: [
        text("Snow in Boston cancels twenty flights"),
        text("New museum opens in Vienna after five years"),
    ],
    TextGeneration.module_id: [
        text(r",? (there (was|lived) an? .*|an? [a-z ]+ named .*|[A-Z][a-z]+ the [a-z]+ lived .*)"),
        text(r" (found|saw|picked up|discovered) an? [a-z]+ [a-z]+\. The [a-z]+ was .*"),
    ],
}


@pytest.mark.parametrize("module_id", MODULES, ids=[module.__name__ for module in MODULES.values()])
def test_starter_answers_the_examples_well(module_id: str) -> None:
    module = starter(module_id)
    task = module.task
    can_vary = "do_sample" in task.params.model_fields
    for example, check in zip(task.examples(), EXPECTED[module_id], strict=True):
        for params in [task.params(seed=seed) for seed in SEEDS] if can_vary else [task.params()]:
            [output] = answers(module, [task.input.model_validate(example)], params)
            check(output)
