"""What the nine tasks are asked and answer, and what Caikit's clients must read of it."""

from typing import Any

from deployments.media import EXAMPLE_IMAGE
from deployments.task import TASKS
from tests.fake_router import FakeRouter

PNG = b"\x89PNG mask"
LABELS = {"labels": [{"label": "NEGATIVE", "score": 0.25}, {"label": "POSITIVE", "score": 0.75}]}
BOX = {"xmin": 10, "ymin": 7, "xmax": 30, "ymax": 22}
VECTORS = [{"index": 4, "values": [0.5, -1.0]}, {"index": 9, "values": [0.0, 2.0]}]

OUTPUTS: dict[str, dict[str, Any]] = {
    "conversational": {"generated_text": "Fine, and you?"},
    "embeddings": {"tokens": VECTORS},
    "image-classification": LABELS,
    "image-segmentation": {
        "segments": [
            {"label": "cat", "score": 0.5, "mask": PNG},
            {"label": "sky", "score": None, "mask": PNG},
        ]
    },
    "object-detection": {"objects": [{"label": "cat", "score": 0.75, "box": BOX}]},
    "sentence-similarity": {"embeddings": VECTORS},
    "sentiment": LABELS,
    "summarization": {"summary_text": "Short."},
    "text-generation": {"generated_text": "Once upon a time, 日本"},
}

ASKED: dict[str, Any] = {
    "image-classification": EXAMPLE_IMAGE,
    "image-segmentation": EXAMPLE_IMAGE,
    "object-detection": EXAMPLE_IMAGE,
    "sentence-similarity": ["A cat.", "A dog."],
}
"""What is asked of a task; of those not here, a text."""

RESULT = {"output": [{"input": 4, "output": [0.5, -1.0]}, {"input": 9, "output": [0.0, 2.0]}]}
CLASSES = {
    "classes": [
        {"class_name": "NEGATIVE", "confidence": 0.25},
        {"class_name": "POSITIVE", "confidence": 0.75},
    ]
}
MASK = "iVBORyBtYXNr"

ANSWERS: dict[str, dict[str, Any]] = {
    "conversational": {"text": "Fine, and you?"},
    "embeddings": RESULT,
    "image-classification": CLASSES,
    "image-segmentation": {
        "objects": [
            {"label": "cat", "score": 0.5, "mask": MASK},
            {"label": "sky", "score": None, "mask": MASK},
        ]
    },
    "object-detection": {"objects": [{"label": "cat", "score": 0.75, "box": BOX}]},
    "sentence-similarity": RESULT,
    "sentiment": CLASSES,
    "summarization": {"text": "Short."},
    "text-generation": {"text": "Once upon a time, 日本"},
}
"""What Caikit's clients must read, as JSON; gRPC has 0.0 for null."""


def can(router: FakeRouter) -> FakeRouter:
    """The router, whose models now answer `OUTPUTS`."""
    for name, output in OUTPUTS.items():
        answer(router, name, output)
    return router


def answer(router: FakeRouter, name: str, output: dict[str, Any]) -> None:
    value = TASKS[name].output.model_validate(output)
    router.outputs[name] = lambda _: value


def fail(router: FakeRouter, name: str, failure: Exception) -> None:
    def raising(_: Any) -> Any:
        raise failure

    router.outputs[name] = raising


def model_info(router: FakeRouter, name: str) -> dict[str, Any]:
    """A loaded model as the info service tells it."""
    return {
        "model_path": "models/x",
        "name": name,
        "size": 4000,
        "metadata": {},
        "loaded": True,
        "module_id": router.cards[name].module_id,
        "module_metadata": {"name": name.replace("-", "_"), "version": "0.0.0"},
    }
