"""Describe a model as the Hub's own servers do: its kind, whether it answers, its facts and its limits."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from deployments.card import Card, Description, State
from deployments.errors import ModelNotReady
from deployments.schema import MAX_ITEMS, Label, field_types
from deployments.task import TASKS, Task
from deployments.wire.ranking import is_ranking_task

Kind = Literal["embedding", "classifier", "reranker"]

# What Text Embeddings Inference tells of each kind. A Router does not know a checkpoint's pooling or labels.
FACTS: dict[Kind, dict[str, Any]] = {
    "embedding": {"pooling": "as-trained"},
    "classifier": {"id2label": {}, "label2id": {}},
    "reranker": {"id2label": {}, "label2id": {}},
}


class Loading(ModelNotReady):
    """The model's first replica is on its way."""


class Health(BaseModel):
    """A model that answers."""

    status: Literal["ready"] = "ready"


class Info(BaseModel):
    """A model's facts and limits, by the names that the Hub's own servers use.

    `max_concurrent_requests` is None where any number may wait. `auto_truncate`: whether /embed cuts too long
    a text unasked. `tokenization_workers`: each replica has one.
    """

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    served_model_name: str
    model_sha: str | None
    model_pipeline_tag: str | None
    task: str | None
    state: State
    model_type: dict[Kind, dict[str, Any]] | None
    max_concurrent_requests: int | None
    tokenization_workers: int
    version: str
    model_dtype: str | None = None
    model_device_type: str | None = None
    max_input_length: int | None = None
    max_batch_size: int | None = None
    max_batch_requests: int | None = None
    max_batch_tokens: int | None = None
    max_client_batch_size: int = MAX_ITEMS
    auto_truncate: bool = False


def kind(task: Task) -> Kind | None:
    """Which of Text Embeddings Inference's models perform such a task, by what goes in and comes out."""
    if is_ranking_task(task):
        return "reranker"
    if [*field_types(task.input).values()] != ["text"]:
        return None
    outputs = task.output.model_fields
    if "embedding" in outputs:
        return "embedding"
    return "classifier" if "labels" in outputs and outputs["labels"].annotation == list[Label] else None


def info(card: Card) -> Info:
    """All that is known of a model, in whatever state."""
    task = TASKS.get(card.task or "")
    type_ = kind(task) if task else None
    return Info(
        model_id=card.model or card.id,
        served_model_name=card.id,
        model_sha=card.revision,
        model_pipeline_tag=task.pipeline_tag if task else None,
        task=card.task,
        state=card.state,
        model_type={type_: FACTS[type_]} if type_ else None,
        max_concurrent_requests=None
        if card.max_queued_requests < 0
        else card.replicas.running * card.max_ongoing_requests + card.max_queued_requests,
        tokenization_workers=card.replicas.running,
        version=_version(),
        **_loaded(card.description),
    )


def healthy(card: Card) -> Health:
    """What is said of a model that answers. Raises `Loading`, or `ModelNotReady` with the reason."""
    if card.state == "loading":
        raise loading(card)
    if card.state == "unavailable":
        raise ModelNotReady(card.reason or f"the model {card.id!r} is unavailable")
    return Health()


def loading(card: Card) -> Loading:
    """What is said of a model that does not answer yet."""
    return Loading(f"Model {card.id} is currently loading")


def _loaded(description: Description | None) -> dict[str, Any]:
    """What is known of a model only once a replica has loaded it."""
    if description is None:
        return {}
    return {
        "model_dtype": description.dtype,
        "model_device_type": description.device,
        "max_input_length": description.max_length,
        "max_batch_size": description.max_batch_size,
        "max_batch_requests": description.max_batch_size,
        "max_batch_tokens": description.max_batch_tokens,
    }


@cache
def _version() -> str:
    try:
        return version("roster")
    except PackageNotFoundError:  # run from a checkout that nobody installed
        return ""
