"""Texts ranked by how well they answer a query: what several dialects ask of a model that compares texts."""

from typing import TYPE_CHECKING

from deployments.errors import InferenceError, TaskMismatch
from deployments.results import Usage
from deployments.schema import field_types
from deployments.task import Task

if TYPE_CHECKING:
    from deployments.routing.router import Router


def compares(task: Task) -> bool:
    """Whether the task compares one text with several: it has a field of each, and answers with numbers."""
    return (
        sorted(field_types(task.input).values()) == ["text", "texts"]
        and "similarities" in task.output.model_fields
    )


async def scores(
    router: "Router", dialect: str, model_id: str, query: str, texts: list[str]
) -> tuple[list[float], Usage]:
    """How well each text answers the query, in their order; higher is better. Raises `TaskMismatch`."""
    task = router.task(model_id)
    if not compares(task):
        raise TaskMismatch(f"the model {model_id!r} performs {task.name}; it cannot rank texts")
    fields = {word: name for name, word in field_types(task.input).items()}
    item = {fields["text"]: query, fields["texts"]: texts}
    inputs, params = await router.validator.validate(task, dialect, [item], {})
    answers = await router.infer(model_id, inputs, params)
    if isinstance(answers[0], InferenceError):
        raise answers[0]
    return list(answers[0].similarities), answers.usage
