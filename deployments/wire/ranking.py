"""Scores of texts by how well they answer a query, for the rerank and score routes of several dialects."""

from typing import TYPE_CHECKING

from deployments.errors import InferenceError, TaskMismatch
from deployments.results import Usage
from deployments.schema import field_types
from deployments.task import Task

if TYPE_CHECKING:
    from deployments.routing.router import Router


def is_ranking_task(task: Task) -> bool:
    """Return whether the task compares one text with several: its inputs are both, its output has scores."""
    return (
        sorted(field_types(task.input).values()) == ["text", "texts"]
        and "similarities" in task.output.model_fields
    )


async def score_texts(
    router: "Router", dialect: str, model_id: str, query: str, texts: list[str]
) -> tuple[list[float], Usage]:
    """Score how well each text answers the query: in order, higher is better. Raises `TaskMismatch`."""
    task = router.task(model_id)
    if not is_ranking_task(task):
        raise TaskMismatch(f"the model {model_id!r} performs {task.name}; it cannot rank texts")
    names = {type_: name for name, type_ in field_types(task.input).items()}
    fields = {names["text"]: query, names["texts"]: texts}
    inputs, params = await router.validator.validate(task, dialect, [fields], {})
    results = await router.infer(model_id, inputs, params)
    if isinstance(results[0], InferenceError):
        raise results[0]
    return list(results[0].similarities), results.usage
