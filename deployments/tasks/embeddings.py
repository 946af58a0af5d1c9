"""Embeddings: a text in, its vector out (or one per token)."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.encoders import ENGINES
from deployments.errors import InvalidInput
from deployments.pipelines.text_encoder import Pooling, TextEncoder, unit
from deployments.schema import Schema, Text, Vector
from deployments.task import Encoded, Module, task

if TYPE_CHECKING:
    import torch


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class EmbeddingsInput(Schema):
    text: Text = Field(
        description="The text to embed.",
        examples=["A cat sat on the mat.", "Stock markets fell sharply on Monday morning."],
    )


class EmbeddingsParams(Schema):
    normalize: bool | None = Field(
        None,
        description="Whether vectors are scaled to length 1; as the checkpoint was trained if not given.",
    )
    truncate: bool = Field(
        True, description="Cut too long a text at the model's limit; otherwise it is refused."
    )
    truncation_direction: Annotated[Literal["left", "right"], BeforeValidator(_lower)] = Field(
        "right", description="The side on which too long a text is cut."
    )
    prompt_name: str | None = Field(
        None, description="Which of the checkpoint's prompts goes before the text."
    )
    dimensions: int | None = Field(None, ge=1, description="Keep only so many of a vector's first numbers.")
    pooling: Pooling | None = Field(
        None,
        description="How the tokens' vectors become one; `none` returns them all. "
        "As the checkpoint was trained if not given.",
    )


class EmbeddingsOutput(Schema):
    embedding: list[float] | None = Field(default=None, description="The text's vector.")
    tokens: list[Vector] | None = Field(
        default=None, description="One vector per token, by token id, where none are pooled."
    )


@task(
    "embeddings",
    pipeline_tag="feature-extraction",
    single_output_in_list=True,
    dialect_params={"caikit": {"pooling": "none"}},
)
class Embeddings(Module):
    """Turn a text into numbers that are near where meanings are."""

    module_id = "01A9FC92-EF27-4AE7-8D95-E2DC488302D4"
    default_model = "distilbert/distilbert-base-uncased"
    default_revision = "1c4513b2eedbda136f57676a34eea67aba266e5c"
    engines = tuple(ENGINES)

    def load(self, checkpoint: Checkpoint) -> None:
        self.encoder = TextEncoder(checkpoint)
        self.model, self.tokenizer = self.encoder.model, self.encoder.tokenizer
        self.max_length, self.padding_cost = self.encoder.max_length, self.encoder.padding_cost

    def encode(self, inputs: list[EmbeddingsInput], params: EmbeddingsParams) -> list[Encoded]:
        size = self.model.config.hidden_size
        if params.dimensions and params.dimensions > size:
            problem = f"`dimensions` is {params.dimensions}; this model has {size}"
            raise InvalidInput(problem, field="dimensions")
        prompt = self.encoder.prompt(params.prompt_name)
        texts = [prompt + item.text for item in inputs]
        ids = self.encoder.tokenize(texts, params.truncation_direction, params.truncate)
        size = params.dimensions or size
        return [Encoded(one, len(one), size * (len(one) if params.pooling == "none" else 1)) for one in ids]

    def run(self, inputs: list[list[int]], params: EmbeddingsParams) -> list[EmbeddingsOutput]:
        if params.pooling != "none":
            vectors = self._finish(self.encoder.vectors(inputs, params.pooling), params)
            return [EmbeddingsOutput(embedding=vector) for vector in vectors.tolist()]
        matrices = [self._finish(matrix, params).tolist() for matrix in self.encoder.token_vectors(inputs)]
        return [
            EmbeddingsOutput(tokens=[Vector(index=i, values=v) for i, v in zip(*pair, strict=True)])
            for pair in zip(inputs, matrices, strict=True)
        ]

    def _finish(self, vectors: "torch.Tensor", params: EmbeddingsParams) -> "torch.Tensor":
        """Cut and scale, in this order: a shortened vector has length 1 as well."""
        vectors = vectors[..., : params.dimensions]
        own = self.encoder.normalize and params.pooling != "none"
        return unit(vectors) if (own if params.normalize is None else params.normalize) else vectors
