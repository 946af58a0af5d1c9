"""Embeddings: texts in, a vector for each out, as numbers or as base64 of little-endian 32-bit floats."""

import struct
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from deployments.wire.openai.requests import (
    Ability,
    OpenAIRequest,
    TextsOrTokens,
    model_of,
    outputs_of,
    read,
    read_items,
    respond_with,
    texts_of,
)

if TYPE_CHECKING:
    from deployments.routing.router import Router

EMBEDDING = Ability("embed texts", "text", "embedding")


class EmbeddingsRequest(OpenAIRequest):
    """One or several texts, or their token ids; these must be the model's own."""

    input: TextsOrTokens
    dimensions: int | None = Field(None, description="Keep only so many of a vector's first numbers.")
    encoding_format: Literal["float", "base64"] | None = None


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class InputUsage(BaseModel):
    """Tokens, counted by the model."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """A vector for each text, in order."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: InputUsage


async def embed(router: "Router", request: Request) -> Response:
    """Turn texts into vectors. One that cannot be fails the request."""
    asked = await read(request, EmbeddingsRequest)
    model_id = model_of(request, asked)
    task = router.task(model_id)
    field = EMBEDDING.require(task, model_id)
    texts = await texts_of(router, model_id, asked.input, "input")
    params = {} if asked.dimensions is None else {"dimensions": asked.dimensions}
    inputs, chosen = await read_items(
        router, task, [{field: text} for text in texts], params, {field: "input"}
    )
    answers = await router.infer(model_id, inputs, chosen)
    vectors = [output.embedding for output in outputs_of(answers, "input")]
    tokens = sum(answers.usage.costs)
    packed = asked.encoding_format == "base64"
    return respond_with(
        Embeddings(
            data=[
                Embedding(index=place, embedding=packed_floats(vector) if packed else vector)
                for place, vector in enumerate(vectors)
            ],
            model=model_id,
            usage=InputUsage(prompt_tokens=tokens, total_tokens=tokens),
        )
    )


def packed_floats(values: Sequence[float]) -> str:
    """Base64 of the values as little-endian 32-bit floats."""
    return b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
