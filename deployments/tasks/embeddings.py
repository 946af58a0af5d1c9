"""Embeddings: a text in, its vector out (or one per token)."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.encoders import ENGINES
from deployments.errors import InvalidInput
from deployments.pipelines.similarity import normalize
from deployments.pipelines.text_encoder import NETWORK_KINDS, Pooling, TextEncoder
from deployments.pipelines.tokenization import input_token_ids
from deployments.schema import Schema, Text, TextOrTokens, Vector
from deployments.task import Encoded, Module, task

if TYPE_CHECKING:
    import torch


def _lowercase(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class EmbeddingsInput(TextOrTokens):
    text: Text = Field(
        description="The text to embed.",
        examples=["A cat sat on the mat.", "Stock markets fell sharply on Monday morning."],
    )


class EmbeddingsParams(Schema):
    normalize: bool | None = Field(
        None,
        description="Whether to scale vectors to length 1; by default as the checkpoint was trained.",
    )
    truncate: bool = Field(
        True, description="Truncate a text over the model's limit; otherwise the request is refused."
    )
    truncation_direction: Annotated[Literal["left", "right"], BeforeValidator(_lowercase)] = Field(
        "right", description="The side on which a text over the limit is truncated."
    )
    prompt_name: str | None = Field(
        None, description="The name of the checkpoint's prompt to put before the text."
    )
    dimensions: int | None = Field(None, ge=1, description="Keep only this many of a vector's first numbers.")
    pooling: Pooling | None = Field(
        None,
        description="How token vectors become one vector; `none` returns all of them. "
        "By default as the checkpoint was trained.",
    )


class EmbeddingsOutput(Schema):
    embedding: list[float] | None = Field(default=None, description="The text's vector.")
    tokens: list[Vector] | None = Field(
        default=None, description="One vector per token, by token id, with pooling `none`."
    )


@task(
    "embeddings",
    pipeline_tag="feature-extraction",
    single_output_in_list=True,
    dialect_params={"caikit": {"pooling": "none"}, "openai": {"truncate": False}},
)
class Embeddings(Module):
    """Compute an embedding vector for a text."""

    module_id = "01A9FC92-EF27-4AE7-8D95-E2DC488302D4"
    default_model = "distilbert/distilbert-base-uncased"
    default_revision = "1c4513b2eedbda136f57676a34eea67aba266e5c"
    network_kinds = NETWORK_KINDS
    engines = tuple(ENGINES)

    def load(self, checkpoint: Checkpoint) -> None:
        self.encoder = TextEncoder(checkpoint)
        self.model, self.tokenizer = self.encoder.model, self.encoder.tokenizer
        self.max_length, self.padding_cost = self.encoder.max_length, self.encoder.padding_cost

    def encode(self, inputs: list[EmbeddingsInput], params: EmbeddingsParams) -> list[Encoded]:
        self.encoder.check_pooling(params.pooling)
        size = self.encoder.token_size if params.pooling else self.encoder.size
        if params.dimensions and params.dimensions > size:
            problem = f"`dimensions` is {params.dimensions}; this model has {size}"
            raise InvalidInput(problem, field="dimensions")
        prompt = self.encoder.prompt(params.prompt_name)
        texts = [prompt + item.text for item in inputs]
        if self.encoder.prompt_length(params.prompt_name):
            _check_prompt(inputs, params)
        options = {"side": params.truncation_direction, "truncate": params.truncate}
        ids = input_token_ids(self.tokenizer, inputs, texts, self.encoder.max_length, **options)
        size = params.dimensions or size
        return [
            Encoded(row, len(row), size * (len(row) if params.pooling == "none" else 1), row.truncated)
            for row in ids
        ]

    def run(self, inputs: list[list[int]], params: EmbeddingsParams) -> list[EmbeddingsOutput]:
        if params.pooling != "none":
            skip = self.encoder.prompt_length(params.prompt_name)
            vectors = self._finish(self.encoder.vectors(inputs, params.pooling, skip), params)
            return [EmbeddingsOutput(embedding=vector) for vector in vectors.tolist()]
        matrices = [self._finish(matrix, params).tolist() for matrix in self.encoder.token_vectors(inputs)]
        return [
            EmbeddingsOutput(tokens=[Vector(index=i, values=v) for i, v in zip(*pair, strict=True)])
            for pair in zip(inputs, matrices, strict=True)
        ]

    def _finish(self, vectors: "torch.Tensor", params: EmbeddingsParams) -> "torch.Tensor":
        """Shorten, then scale, so that a shortened vector has length 1 too."""
        vectors = vectors[..., : params.dimensions]
        trained = self.encoder.config.normalize and params.pooling != "none"
        return normalize(vectors) if (trained if params.normalize is None else params.normalize) else vectors


def _check_prompt(inputs: list[EmbeddingsInput], params: EmbeddingsParams) -> None:
    """Raise `InvalidInput` if an input may not begin with the prompt, whose tokens are not pooled."""
    if params.truncation_direction == "left":
        problem = "this model does not pool its prompt, which `left` would cut off; send `right`"
        raise InvalidInput(problem, field="truncation_direction")
    if any(item.token_ids for item in inputs):
        raise InvalidInput("this model does not pool its prompt, which token ids lack; send texts")
