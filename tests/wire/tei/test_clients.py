"""Clients of Text Embeddings Inference: the Hub's and LlamaIndex's."""

import asyncio

import pytest
from huggingface_hub import InferenceClient
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

from tests.fake_router import FakeRouter
from tests.wire.tei.samples import (
    ONE,
    TWO,
    VECTOR,
    last_params,
)


def test_hub_client(url: str, router: FakeRouter) -> None:
    client = InferenceClient(model=f"{url}/models/embeddings/embed", token="none")
    assert client.feature_extraction(ONE).tolist() == [VECTOR]
    assert client.feature_extraction([ONE, TWO]).tolist() == [VECTOR] * 2
    client.feature_extraction(
        ONE,
        normalize=False,
        prompt_name="query",
        truncate=True,
        truncation_direction="left",
        dimensions=2,
        encoding_format="float",
    )
    params = last_params(router)
    assert (params.normalize, params.prompt_name, params.dimensions) == (False, "query", 2)
    assert (params.truncate, params.truncation_direction) == (True, "left")
    similarity = InferenceClient(model=f"{url}/models/sentence-similarity/similarity", token="none")
    assert similarity.sentence_similarity(ONE, other_sentences=[TWO, TWO]) == [0.5, 0.5]


@pytest.mark.parametrize("prefix", ["", "/models/embeddings"])
def test_llama_index(url: str, router: FakeRouter, prefix: str) -> None:
    client = TextEmbeddingsInference(
        model_name="BAAI/bge-large-en-v1.5",
        base_url=f"{url}{prefix}",
        text_instruction=" ",
        auth_token="none",
    )
    assert client.get_text_embedding("Hello World!") == VECTOR
    assert client.get_text_embedding_batch([ONE, TWO]) == [VECTOR] * 2
    assert client.get_query_embedding(ONE) == VECTOR
    assert asyncio.run(client.aget_text_embedding("Hello World!")) == VECTOR
    assert last_params(router).truncate is True
