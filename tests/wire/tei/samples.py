"""Sample inputs and outputs, and what a fake router received."""

from typing import Any

from deployments.task import TASKS
from tests.fake_router import FakeRouter

ONE, TWO = "What is Deep Learning?", "I like you."
VECTOR = [0.5, 0.5]
LABELS = [{"label": "word", "score": 0.5}] * 2


def last_params(router: FakeRouter) -> Any:
    return router.received[-1].params


def last_texts(router: FakeRouter) -> list[str]:
    return [item.text for item in router.received[-1].inputs]


def token_vectors(*vectors: list[float]) -> Any:
    return TASKS["embeddings"].output(tokens=[{"index": i, "values": v} for i, v in enumerate(vectors)])


def similarities(*scores: float) -> Any:
    return TASKS["sentence-similarity"].output(similarities=list(scores))
