"""Describe a model as the Hub's own servers do: its type, its health, its metadata and its limits."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from deployments.card import Card, Description, State
from deployments.errors import ModelNotReady
from deployments.schema import MAX_ITEMS, Label, field_types
from deployments.task import TASKS, Task
from deployments.wire.ranking import is_ranking_task

ModelType = Literal["embedding", "classifier", "reranker"]

# Text Embeddings Inference's details of each type. A Router does not know a checkpoint's pooling or labels.
TYPE_DETAILS: dict[ModelType, dict[str, Any]] = {
    "embedding": {"pooling": "as-trained"},
    "classifier": {"id2label": {}, "label2id": {}},
    "reranker": {"id2label": {}, "label2id": {}},
}


class ModelLoading(ModelNotReady):
    """The model's first replica is still loading."""


class Health(BaseModel):
    """A model that is ready."""

    status: Literal["ready"] = "ready"


class Info(BaseModel):
    """A model's metadata and limits, by the names that the Hub's own servers use.

    `max_concurrent_requests` is None if the queue has no limit. `auto_truncate`: whether /embed truncates
    long texts by default. `tokenization_workers`: one per replica.
    """

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    served_model_name: str
    model_sha: str | None
    model_pipeline_tag: str | None
    task: str | None
    state: State
    model_type: dict[ModelType, dict[str, Any]] | None
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


def model_type_of(task: Task) -> ModelType | None:
    """Return the type of Text Embeddings Inference's models that has the task's inputs and outputs."""
    if is_ranking_task(task):
        return "reranker"
    if [*field_types(task.input).values()] != ["text"]:
        return None
    outputs = task.output.model_fields
    if "embedding" in outputs:
        return "embedding"
    return "classifier" if "labels" in outputs and outputs["labels"].annotation == list[Label] else None


def model_info(card: Card) -> Info:
    """Return the metadata of a model in any state."""
    task = TASKS.get(card.task or "")
    type_ = model_type_of(task) if task else None
    return Info(
        model_id=card.model or card.id,
        served_model_name=card.id,
        model_sha=card.revision,
        model_pipeline_tag=task.pipeline_tag if task else None,
        task=card.task,
        state=card.state,
        model_type={type_: TYPE_DETAILS[type_]} if type_ else None,
        max_concurrent_requests=None
        if card.max_queued_requests < 0
        else card.replicas.running * card.max_ongoing_requests + card.max_queued_requests,
        tokenization_workers=card.replicas.running,
        version=_version(),
        **_limits(card.description),
    )


def model_health(card: Card) -> Health:
    """Return `Health` if the model is ready. Raises `ModelLoading`, or `ModelNotReady` with the reason."""
    if card.state == "loading":
        raise loading_error(card)
    if card.state == "unavailable":
        raise ModelNotReady(card.reason or f"the model {card.id!r} is unavailable")
    return Health()


def loading_error(card: Card) -> ModelLoading:
    """Return the error for requests to a model that is still loading."""
    return ModelLoading(f"Model {card.id} is currently loading")


def _limits(description: Description | None) -> dict[str, Any]:
    """Return the metadata that exists only after a replica has loaded the model."""
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
    except PackageNotFoundError:  # runs from a checkout that is not installed
        return ""
