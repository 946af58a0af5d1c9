"""Moderations: texts in, what a classifier finds in them out.

The categories are the model's own labels, not OpenAI's. One holds for a text where its score is 0.5 or more,
and flags the text unless its name, in any spelling, is among `BENIGN`: whether an unknown label means harm
nobody here can tell, so it does.
"""

import uuid
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from deployments.wire.openai.requests import (
    Ability,
    OneOrSeveral,
    OpenAIRequest,
    model_of,
    outputs_of,
    read,
    read_items,
    respond_with,
    texts_of,
)

if TYPE_CHECKING:
    from deployments.routing.router import Router

MODERATION = Ability("tell labels of a text", "text", "labels")
HOLDS = 0.5
BENIGN = {
    "acceptable",
    "benign",
    "clean",
    "ham",
    "harmless",
    "neutral",
    "no hate",
    "non hate",
    "non offensive",
    "non toxic",
    "none",
    "normal",
    "not hate",
    "not offensive",
    "not spam",
    "not toxic",
    "nothate",
    "nontoxic",
    "ok",
    "okay",
    "positive",
    "safe",
    "sfw",
}
"""Names of labels that mean no harm, in lower case, with spaces for hyphens and underscores."""


class ModerationRequest(OpenAIRequest):
    """One or several texts."""

    input: OneOrSeveral


class Moderation(BaseModel):
    """What is in one text, by label."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[Literal["text"]]]


class Moderations(BaseModel):
    """A finding for each text, in order."""

    id: str
    model: str
    results: list[Moderation]


async def moderate(router: "Router", request: Request) -> Response:
    """Tell which labels hold for each text, and whether one of them may mean harm."""
    asked = await read(request, ModerationRequest)
    model_id = model_of(request, asked)
    task = router.task(model_id)
    field = MODERATION.require(task, model_id)
    texts = await texts_of(router, model_id, asked.input, "input")
    inputs, params = await read_items(router, task, [{field: text} for text in texts], {}, {field: "input"})
    outputs = outputs_of(await router.infer(model_id, inputs, params), "input")
    results = [_found(output.labels) for output in outputs]
    return respond_with(Moderations(id=f"modr-{uuid.uuid4().hex}", model=model_id, results=results))


def is_benign(label: str) -> bool:
    """Whether a label's name is known to mean no harm."""
    return " ".join(label.casefold().replace("-", " ").replace("_", " ").split()) in BENIGN


def _found(labels: list[Any]) -> Moderation:
    scores = {label.label: label.score for label in labels}
    holds = {name: score >= HOLDS for name, score in scores.items()}
    return Moderation(
        flagged=any(held and not is_benign(name) for name, held in holds.items()),
        categories=holds,
        category_scores=scores,
        category_applied_input_types={name: ["text"] for name in scores},
    )
