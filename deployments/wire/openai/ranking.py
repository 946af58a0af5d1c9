"""Rerank and score: compare texts, in the formats of Cohere, Jina and vLLM."""

import time
import uuid
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import InvalidInput
from deployments.schema import MAX_ITEMS
from deployments.wire.openai.concurrency import gather_or_cancel
from deployments.wire.openai.embeddings import InputUsage
from deployments.wire.openai.requests import (
    DIALECT,
    NonEmptyText,
    OpenAIObject,
    OpenAIRequest,
    TextOrTexts,
    model_id_of,
    parse_body,
    respond_with,
    single_or_list,
)
from deployments.wire.ranking import score_texts

if TYPE_CHECKING:
    from deployments.routing.router import Router


class TextDocument(OpenAIObject):
    """A text in an object; other fields of the object are the client's own data."""

    model_config = ConfigDict(extra="ignore")

    text: NonEmptyText


AnyDocument = Annotated[
    Annotated[NonEmptyText, Tag("single")] | Annotated[TextDocument, Tag("list")],
    Discriminator(single_or_list),
]


class RankRequest(OpenAIRequest):
    """A query, and the texts to rank."""

    query: NonEmptyText
    documents: Annotated[list[AnyDocument], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]
    top_n: int | None = Field(None, ge=1, description="Return only the best n; all by default.")
    return_documents: bool | None = Field(None, description="Return the texts too, unless false.")


class RankUsage(BaseModel):
    """The number of tokens, by the model's tokenizer."""

    total_tokens: int


class RankedDocument(BaseModel):
    text: str


class Ranked(BaseModel):
    """A text's index in the request, and how well it answers the query: higher is better."""

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
    """Two texts, one text and a list, or two lists of equal length, which are compared pair by pair."""

    text_1: TextOrTexts
    text_2: TextOrTexts


class Score(BaseModel):
    index: int
    object: Literal["score"] = "score"
    score: float


class Scores(BaseModel):
    """A score for each pair, in order: higher is more similar."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Score]
    usage: InputUsage


async def rerank(router: "Router", request: Request) -> Response:
    """Rank texts by how well they answer a query."""
    body = await parse_body(request, RankRequest)
    model_id = model_id_of(request, body)
    texts = [document if isinstance(document, str) else document.text for document in body.documents]
    scores, usage = await score_texts(router, DIALECT, model_id, body.query, texts)
    best = sorted(range(len(texts)), key=lambda index: -scores[index])[: body.top_n]
    return_documents = body.return_documents is not False
    return respond_with(
        Ranking(
            id=f"rerank-{uuid.uuid4().hex}",
            model=model_id,
            usage=RankUsage(total_tokens=sum(usage.costs)),
            results=[
                Ranked(
                    index=index,
                    relevance_score=scores[index],
                    document=RankedDocument(text=texts[index]) if return_documents else None,
                )
                for index in best
            ],
        )
    )


async def score_pairs(router: "Router", request: Request) -> Response:
    """Score the similarity of texts, pair by pair."""
    body = await parse_body(request, ScoreRequest)
    model_id = model_id_of(request, body)
    scores, tokens = await _score(router, model_id, _to_pairs(body))
    return respond_with(
        Scores(
            id=f"score-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=model_id,
            data=[Score(index=index, score=score) for index, score in enumerate(scores)],
            usage=InputUsage(prompt_tokens=tokens, total_tokens=tokens),
        )
    )


def _to_pairs(body: ScoreRequest) -> list[tuple[str, str]]:
    first = [body.text_1] if isinstance(body.text_1, str) else body.text_1
    second = [body.text_2] if isinstance(body.text_2, str) else body.text_2
    if len(first) not in (1, len(second)):
        problem = (
            f"`text_1` has {len(first)} texts, `text_2` {len(second)}: send one text, or as many, in `text_1`"
        )
        raise InvalidInput(problem, field="text_2")
    return list(zip(first * len(second) if len(first) == 1 else first, second, strict=True))


async def _score(router: "Router", model_id: str, pairs: list[tuple[str, str]]) -> tuple[list[float], int]:
    """Return the score of each pair, and the number of tokens; pairs with equal first texts share a call."""
    indices_by_text: dict[str, list[int]] = {}
    for index, (text, _) in enumerate(pairs):
        indices_by_text.setdefault(text, []).append(index)
    results = await gather_or_cancel(
        score_texts(router, DIALECT, model_id, text, [pairs[index][1] for index in indices])
        for text, indices in indices_by_text.items()
    )
    scores: dict[int, float] = {}
    for indices, (values, _) in zip(indices_by_text.values(), results, strict=True):
        scores.update(zip(indices, values, strict=True))
    return [scores[index] for index in range(len(pairs))], sum(sum(usage.costs) for _, usage in results)
