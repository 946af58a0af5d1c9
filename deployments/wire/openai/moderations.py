"""Moderations: a classifier's labels for each text.

The categories are the model's own labels, not OpenAI's. A category applies to a text if its score is 0.5 or
more. It flags the text unless `BENIGN` has its name, in any spelling: a label with an unknown name may mean
harm.
"""

import uuid
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from deployments.wire.openai.requests import (
    Capability,
    OpenAIRequest,
    TextOrTexts,
    infer_texts,
    model_id_of,
    parse_body,
    respond_with,
)

if TYPE_CHECKING:
    from deployments.routing.router import Router

MODERATION = Capability("classify texts", input_type="text", output_field="labels")
THRESHOLD = 0.5
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
"""Names of harmless labels: in lower case, with spaces in place of hyphens and underscores."""


class ModerationRequest(OpenAIRequest):
    """One or several texts."""

    input: TextOrTexts


class Moderation(BaseModel):
    """The categories of one text, by label."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[Literal["text"]]]


class Moderations(BaseModel):
    """The categories of each text, in order."""

    id: str
    model: str
    results: list[Moderation]


async def moderate(router: "Router", request: Request) -> Response:
    """Classify each text, and flag it if a label that applies may mean harm."""
    body = await parse_body(request, ModerationRequest)
    model_id = model_id_of(request, body)
    outputs = await infer_texts(router, model_id, MODERATION, body.input, {})
    results = [_to_moderation(output.labels) for output in outputs]
    return respond_with(Moderations(id=f"modr-{uuid.uuid4().hex}", model=model_id, results=results))


def is_benign(label: str) -> bool:
    """Return whether the label's name is in `BENIGN`, in any spelling."""
    return " ".join(label.casefold().replace("-", " ").replace("_", " ").split()) in BENIGN


def _to_moderation(labels: list[Any]) -> Moderation:
    scores = {label.label: label.score for label in labels}
    categories = {name: score >= THRESHOLD for name, score in scores.items()}
    return Moderation(
        flagged=any(applies and not is_benign(name) for name, applies in categories.items()),
        categories=categories,
        category_scores=scores,
        category_applied_input_types={name: ["text"] for name in scores},
    )
