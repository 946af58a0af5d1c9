"""Example requests in Text Embeddings Inference's form."""

from typing import Any

from deployments.schema import field_types
from deployments.task import Task
from deployments.wire.model_info import ModelType, model_type_of


def examples(task: Task) -> dict[str, dict[str, Any]]:
    """Return a request's body for each route that a model of the task answers, by the route's name."""
    example, meant = task.examples()[0], field_types(task.input)
    by_word = {word: example[name] for name, word in meant.items() if name in example}
    text, texts = by_word.get("text"), by_word.get("texts")
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
    return main.get(model_type_of(task), {}) | ({} if "image" in meant.values() else tokens)
