"""Inputs and outputs of the nine tasks, and the responses that Caikit's clients expect for them."""

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

INPUTS: dict[str, Any] = {
    "image-classification": EXAMPLE_IMAGE,
    "image-segmentation": EXAMPLE_IMAGE,
    "object-detection": EXAMPLE_IMAGE,
    "sentence-similarity": ["A cat.", "A dog."],
}
"""The inputs of tasks that have other inputs than a text."""

RESULT = {"output": [{"input": 4, "output": [0.5, -1.0]}, {"input": 9, "output": [0.0, 2.0]}]}
CLASSES = {
    "classes": [
        {"class_name": "NEGATIVE", "confidence": 0.25},
        {"class_name": "POSITIVE", "confidence": 0.75},
    ]
}
MASK = "iVBORyBtYXNr"

RESPONSES: dict[str, dict[str, Any]] = {
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
"""The responses as JSON; over gRPC, null is 0.0."""


def set_outputs(router: FakeRouter) -> FakeRouter:
    """Let the router's models return `OUTPUTS`."""
    for name, output in OUTPUTS.items():
        set_output(router, name, output)
    return router


def set_output(router: FakeRouter, name: str, output: dict[str, Any]) -> None:
    value = TASKS[name].output.model_validate(output)
    router.outputs[name] = lambda _: value


def set_error(router: FakeRouter, name: str, error: Exception) -> None:
    """Let a model raise `error`."""

    def fail(_: Any) -> Any:
        raise error

    router.outputs[name] = fail


def model_info(router: FakeRouter, name: str) -> dict[str, Any]:
    """Return the info service's facts about a loaded model."""
    return {
        "model_path": "models/x",
        "name": name,
        "size": 4000,
        "metadata": {},
        "loaded": True,
        "module_id": router.cards[name].module_id,
        "module_metadata": {"name": name.replace("-", "_"), "version": "0.0.0"},
    }
