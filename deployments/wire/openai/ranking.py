"""Rerank and score: texts compared, in the forms that Cohere, Jina and vLLM have given them."""

import time
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import InvalidInput
from deployments.schema import MAX_ITEMS
from deployments.wire.openai.embeddings import InputUsage
from deployments.wire.openai.generation import together
from deployments.wire.openai.requests import (
    DIALECT,
    Asked,
    Line,
    OneOrSeveral,
    OpenAIRequest,
    model_of,
    one_or_several,
    read,
    respond_with,
)
from deployments.wire.ranking import scores

if TYPE_CHECKING:
    from deployments.routing.router import Router


class TextDocument(Asked):
    """A text, as an object."""

    text: Line


AnyDocument = Annotated[
    Annotated[Line, Tag("one")] | Annotated[TextDocument, Tag("several")], Discriminator(one_or_several)
]


class RankRequest(OpenAIRequest):
    """A query, and the texts to put in order."""

    query: Line
    documents: Annotated[list[AnyDocument], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]
    top_n: int | None = Field(None, ge=1, description="Tell only so many of the best; all if not given.")
    return_documents: bool | None = Field(None, description="Tell the texts as well, unless false.")


class RankUsage(BaseModel):
    """Tokens, counted by the model."""

    total_tokens: int


class RankedDocument(BaseModel):
    text: str


class Ranked(BaseModel):
    """A text's place in the request, and how well it answers the query: higher is better."""

    index: int
    relevance_score: float
    document: RankedDocument | None


class Ranking(BaseModel):
    """The texts, best first."""

    id: str
    model: str
    usage: RankUsage
    results: list[Ranked]


class ScoreRequest(OpenAIRequest):
    """Two texts; or one and several; or two lists of one length, whose texts are compared pair by pair."""

    text_1: OneOrSeveral
    text_2: OneOrSeveral


class Score(BaseModel):
    index: int
    object: Literal["score"] = "score"
    score: float


class Scores(BaseModel):
    """A score for each pair, in order: higher is nearer."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Score]
    usage: InputUsage


async def rerank(router: "Router", request: Request) -> Response:
    """Put texts in order of how well they answer a query."""
    asked = await read(request, RankRequest)
    model_id = model_of(request, asked)
    texts = [one if isinstance(one, str) else one.text for one in asked.documents]
    found, usage = await scores(router, DIALECT, model_id, asked.query, texts)
    best = sorted(range(len(texts)), key=lambda place: -found[place])[: asked.top_n]
    shown = asked.return_documents is not False
    return respond_with(
        Ranking(
            id=f"rerank-{uuid.uuid4().hex}",
            model=model_id,
            usage=RankUsage(total_tokens=sum(usage.costs)),
            results=[
                Ranked(
                    index=place,
                    relevance_score=found[place],
                    document=RankedDocument(text=texts[place]) if shown else None,
                )
                for place in best
            ],
        )
    )


async def score(router: "Router", request: Request) -> Response:
    """Tell how near texts are, pair by pair."""
    asked = await read(request, ScoreRequest)
    model_id = model_of(request, asked)
    first, second = _list(asked.text_1), _list(asked.text_2)
    if len(first) not in (1, len(second)):
        problem = f"`text_2` holds {len(second)} texts; with {len(first)} in `text_1`, as many go"
        raise InvalidInput(problem, field="text_2")
    pairs = list(zip(first * (len(second) if len(first) == 1 else 1), second, strict=True))
    places: dict[str, list[int]] = {}
    for place, (query, _) in enumerate(pairs):
        places.setdefault(query, []).append(place)
    answers = await together(
        scores(router, DIALECT, model_id, query, [pairs[place][1] for place in those])
        for query, those in places.items()
    )
    found: dict[int, float] = {}
    for those, (values, _) in zip(places.values(), answers, strict=True):
        found.update(zip(those, values, strict=True))
    tokens = sum(sum(usage.costs) for _, usage in answers)
    return respond_with(
        Scores(
            id=f"score-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=model_id,
            data=[Score(index=place, score=found[place]) for place in range(len(pairs))],
            usage=InputUsage(prompt_tokens=tokens, total_tokens=tokens),
        )
    )


def _list(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else given
