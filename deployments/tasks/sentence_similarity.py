"""Sentence similarity: a sentence and others in, how near each of them is out."""

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.encoders import ENGINES
from deployments.pipelines.similarity import SIMILARITIES, normalize
from deployments.pipelines.text_encoder import NETWORK_KINDS, TextEncoder
from deployments.pipelines.tokenization import TokenIds
from deployments.schema import Schema, Text, Texts, Vector
from deployments.task import Encoded, Module, task

if TYPE_CHECKING:
    import torch


class SentenceSimilarityInput(Schema):
    source_sentence: Text | None = Field(
        None,
        description="The sentence to compare with. Without it, the response has the sentences' vectors.",
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
        default=None,
        description="How near each sentence is to the source sentence: by the checkpoint's function, or else "
        "the cosine, -1 to 1; a distance is negative.",
    )
    embeddings: list[Vector] | None = Field(
        default=None, description="Each sentence's vector, by its index, without a source sentence."
    )


class Sentences(NamedTuple):
    """The token ids of an item's sentences; a source sentence comes first."""

    ids: list[TokenIds]
    have_source: bool


@task("sentence-similarity")
class SentenceSimilarity(Module):
    """Compare sentences by meaning."""

    module_id = "A2543F83-1520-416B-85E4-F2BCB6F63354"
    default_model = "sentence-transformers/all-MiniLM-L6-v2"
    network_kinds = NETWORK_KINDS
    engines = tuple(ENGINES)

    def load(self, checkpoint: Checkpoint) -> None:
        self.encoder = TextEncoder(checkpoint)
        self.model, self.tokenizer = self.encoder.model, self.encoder.tokenizer
        self.max_length, self.padding_cost = self.encoder.max_length, self.encoder.padding_cost

    def encode(
        self, inputs: list[SentenceSimilarityInput], params: SentenceSimilarityParams
    ) -> list[Encoded]:
        prompt = self.encoder.prompt(None)
        ids = iter(self.encoder.tokenize([prompt + text for item in inputs for text in _all(item)]))
        encoded = []
        for item in inputs:
            own = list(islice(ids, len(_all(item))))
            have_source = item.source_sentence is not None
            numbers = len(item.sentences) * (1 if have_source else self.encoder.size)
            cut = sum(row.truncated for row in own)
            encoded.append(Encoded(Sentences(own, have_source), sum(map(len, own)), numbers, cut))
        return encoded

    def run(
        self, inputs: list[Sentences], params: SentenceSimilarityParams
    ) -> list[SentenceSimilarityOutput]:
        import torch

        ids = [ids for item in inputs for ids in item.ids]
        vectors = self.encoder.vectors_in_passes(ids, self.encoder.prompt_length(None))
        vectors = normalize(vectors) if self.encoder.config.normalize else vectors
        rows = iter(vectors)
        return [self._compare(item, torch.stack([*islice(rows, len(item.ids))])) for item in inputs]

    def _compare(self, item: Sentences, vectors: "torch.Tensor") -> SentenceSimilarityOutput:
        if item.have_source:
            similarities = SIMILARITIES[self.encoder.config.similarity](vectors[0], vectors[1:])
            return SentenceSimilarityOutput(similarities=similarities.tolist())
        embeddings = [Vector(index=index, values=values) for index, values in enumerate(vectors.tolist())]
        return SentenceSimilarityOutput(embeddings=embeddings)


def _all(item: SentenceSimilarityInput) -> list[str]:
    return item.sentences if item.source_sentence is None else [item.source_sentence, *item.sentences]
