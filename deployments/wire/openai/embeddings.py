"""Embeddings: a vector for each text, as numbers or as base64 of little-endian 32-bit floats."""

import struct
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from deployments.wire.openai.requests import (
    Capability,
    OpenAIRequest,
    TextsOrTokens,
    infer_texts,
    model_id_of,
    parse_body,
    respond_with,
)

if TYPE_CHECKING:
    from deployments.routing.router import Router

EMBEDDING = Capability("embed texts", input_type="text", output_field="embedding")


class EmbeddingsRequest(OpenAIRequest):
    """One or several texts, or their token ids from the model's own tokenizer."""

    input: TextsOrTokens
    dimensions: int | None = Field(
        None, description="Truncate each vector to this many numbers.", json_schema_extra={"minimum": 1}
    )
    encoding_format: Literal["float", "base64"] | None = None


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class InputUsage(BaseModel):
    """Numbers of tokens, by the model's tokenizer."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """A vector for each text, in order."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: InputUsage


async def embed(router: "Router", request: Request) -> Response:
    """Compute an embedding vector for each text. One text's error fails the request."""
    body = await parse_body(request, EmbeddingsRequest)
    model_id = model_id_of(request, body)
    params = {} if body.dimensions is None else {"dimensions": body.dimensions}
    results = await infer_texts(router, model_id, EMBEDDING, body.input, params)
    vectors = [output.embedding for output in results]
    if body.encoding_format == "base64":
        vectors = [encode_base64(vector) for vector in vectors]
    data = [Embedding(index=index, embedding=vector) for index, vector in enumerate(vectors)]
    tokens = sum(results.usage.costs)
    usage = InputUsage(prompt_tokens=tokens, total_tokens=tokens)
    return respond_with(Embeddings(data=data, model=model_id, usage=usage))


def encode_base64(values: Sequence[float]) -> str:
    """Encode a vector as base64 of little-endian 32-bit floats."""
    return b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
