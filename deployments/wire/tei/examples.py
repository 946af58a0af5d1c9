"""Example requests of Text Embeddings Inference's routes."""

from typing import Any

from deployments.schema import field_types
from deployments.task import Task
from deployments.wire.model_info import ModelType, model_type_of


def examples(task: Task) -> dict[str, dict[str, Any]]:
    """Return an example body for each route that a model of the task supports, by the route's name."""
    example, types = task.examples()[0], field_types(task.input)
    by_type = {type_: example[name] for name, type_ in types.items() if name in example}
    text, texts = by_type.get("text"), by_type.get("texts")
    main: dict[ModelType | None, dict[str, Any]] = {
        "embedding": {
            "embed": {"inputs": text},
            "embed_all": {"inputs": text},
            "embeddings": {"input": text},
        },
        "classifier": {"predict": {"inputs": text}},
        "reranker": {
            "rerank": {"query": text, "texts": texts},
            "similarity": {"inputs": {"source_sentence": text, "sentences": texts}},
        },
    }
    tokens = {"tokenize": {"inputs": "Good day"}, "decode": {"ids": [5]}}
    return main.get(model_type_of(task), {}) | ({} if "image" in types.values() else tokens)
