"""Sentence similarity: a sentence and others in, how near each of them is out."""

from itertools import chain
from typing import TYPE_CHECKING

from pydantic import Field

from deployments.checkpoint import Checkpoint
from deployments.pooling import TextEncoder, unit
from deployments.schema import Schema, Text, Texts, Vector
from deployments.task import Module, task

if TYPE_CHECKING:
    import torch


class SentenceSimilarityInput(Schema):
    source_sentence: Text | None = Field(
        None,
        description="The sentence to compare with; without one, the sentences' vectors are returned.",
        examples=["A man is eating food.", "How do I reset my password?"],
    )
    sentences: Texts = Field(
        description="The sentences to compare.",
        examples=[
            ["A man is eating a piece of bread.", "A woman plays the violin."],
            [
                "I forgot my login and need a new one.",
                "What is the weather like today?",
                "Where is my parcel?",
            ],
        ],
    )


class SentenceSimilarityParams(Schema):
    pass


class SentenceSimilarityOutput(Schema):
    similarities: list[float] | None = Field(
        default=None, description="The cosine between the source sentence and each sentence, -1 to 1."
    )
    embeddings: list[Vector] | None = Field(
        default=None, description="Each sentence's vector, by its place, where there was no source sentence."
    )


@task("sentence-similarity")
class SentenceSimilarity(Module):
    """Tell how near sentences are in meaning."""

    module_id = "A2543F83-1520-416B-85E4-F2BCB6F63354"
    default_model = "sentence-transformers/all-MiniLM-L6-v2"

    def load(self, checkpoint: Checkpoint) -> None:
        self.encoder = TextEncoder(checkpoint)
        self.model, self.max_length = self.encoder.model, self.encoder.max_length

    def run(
        self, inputs: list[SentenceSimilarityInput], params: SentenceSimilarityParams
    ) -> list[SentenceSimilarityOutput]:
        import torch

        sentences = list(dict.fromkeys(chain.from_iterable(map(_all, inputs))))
        prompt = self.encoder.prompt(None)
        vectors = torch.stack(self.encoder.encode(self.encoder.tokenize([prompt + one for one in sentences])))
        found = dict(zip(sentences, unit(vectors) if self.encoder.normalize else vectors, strict=True))
        return [_compare(item, found) for item in inputs]


def _all(item: SentenceSimilarityInput) -> list[str]:
    return item.sentences if item.source_sentence is None else [item.source_sentence, *item.sentences]


def _compare(item: SentenceSimilarityInput, found: dict[str, "torch.Tensor"]) -> SentenceSimilarityOutput:
    import torch

    vectors = torch.stack([found[sentence] for sentence in item.sentences])
    if item.source_sentence is not None:
        cosines = unit(vectors) @ unit(found[item.source_sentence])
        return SentenceSimilarityOutput(similarities=cosines.tolist())
    embeddings = [Vector(index=place, values=values) for place, values in enumerate(vectors.tolist())]
    return SentenceSimilarityOutput(embeddings=embeddings)
