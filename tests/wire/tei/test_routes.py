"""The routes of Text Embeddings Inference, with the calls of its documentation."""

from typing import Any

import pytest

from deployments.task import TASKS
from tests.wire.tei.samples import (
    LABELS,
    ONE,
    TWO,
    VECTOR,
    last_params,
    last_texts,
    similarities,
    token_vectors,
)


@pytest.mark.parametrize("prefix", ["", "/models/embeddings"])
@pytest.mark.parametrize(
    ("inputs", "texts"), [(ONE, [ONE]), ([ONE, TWO], [ONE, TWO]), ([TWO], [TWO])], ids=str
)
async def test_embed(http, router, prefix: str, inputs: Any, texts: list[str]) -> None:
    response = await http.post(f"{prefix}/embed", json={"inputs": inputs})
    assert (response.status_code, response.json()) == (200, [VECTOR] * len(texts))
    assert last_texts(router) == texts
    assert (last_params(router).normalize, last_params(router).truncate) == (True, False)


@pytest.mark.parametrize(
    ("inputs", "texts"),
    [
        ([4, 3], ["xxxx xxx"]),
        ([[4, 3], [2]], ["xxxx xxx", "xx"]),
        ([[4], ONE, [0, 1]], ["xxxx", ONE, "x"]),
    ],
    ids=str,
)
async def test_token_ids_are_decoded_to_texts(http, router, inputs: Any, texts: list[str]) -> None:
    response = await http.post("/embed", json={"inputs": inputs})
    assert response.status_code == 200, response.text
    assert last_texts(router) == texts


async def test_embed_with_all_parameters(http, router) -> None:
    params = {
        "normalize": False,
        "truncate": True,
        "truncation_direction": "left",
        "prompt_name": "query",
        "dimensions": 2,
    }
    for spelling in (params, {**params, "truncation_direction": "Left"}):  # older TEI servers use "Left"
        assert (await http.post("/embed", json={"inputs": ONE, **spelling})).json() == [VECTOR]
        assert last_params(router).model_dump(exclude={"pooling"}) == params
    await http.post("/embed", json={"inputs": ONE, "truncate": None, "prompt_name": None})
    assert last_params(router).truncate is False


async def test_embed_all(http, router) -> None:
    router.outputs["embeddings"] = lambda _: token_vectors([1.0, 2.0], [3.0, 4.0])
    response = await http.post("/embed_all", json={"inputs": [ONE, TWO]})
    assert response.json() == [[[1.0, 2.0], [3.0, 4.0]]] * 2
    assert last_params(router).pooling == "none"
    assert last_params(router).normalize is None, "vectors of tokens are not normalized by default"


@pytest.mark.parametrize(
    ("prefix", "model"), [("", {}), ("", {"model": "embeddings"}), ("/models/embeddings", {"model": "any"})]
)
async def test_embeddings_route_has_openai_format(http, router, prefix: str, model: dict[str, str]) -> None:
    if model:
        router.default_model = "sentiment"
    body = (await http.post(f"{prefix}/embeddings", json={"input": [ONE, TWO], **model})).json()
    assert (body["model"], [item["embedding"] for item in body["data"]]) == ("embeddings", [VECTOR] * 2)
    assert last_texts(router) == [ONE, TWO]
    response = await http.post(f"{prefix}/embeddings", json=[])
    assert (response.status_code, response.json()["error_type"]) == (422, "Validation")


async def test_embed_sparse_is_refused(http) -> None:
    response = await http.post("/embed_sparse", json={"inputs": TWO})
    assert response.status_code == 424
    assert response.json()["error_type"] == "Backend"
    assert "sparse" in response.json()["error"]


async def test_similarity(http, router) -> None:
    router.outputs["sentence-similarity"] = lambda _: similarities(0.9, 0.2)
    inputs = {"source_sentence": ONE, "sentences": ["What is Machine Learning?", TWO]}
    for options in ({}, {"parameters": None}, {"parameters": {"truncate": True}}):
        response = await http.post(
            "/models/sentence-similarity/similarity", json={"inputs": inputs, **options}
        )
        assert response.json() == [0.9, 0.2], response.text
    assert router.received[0].inputs[0].model_dump() == inputs


async def test_rerank(http, router) -> None:
    router.outputs["sentence-similarity"] = lambda _: similarities(0.1, 0.9, 0.5)
    body = {"query": ONE, "texts": ["no", "yes", "maybe"], "raw_scores": False}
    response = await http.post("/models/sentence-similarity/rerank", json=body)
    ranks = [{"index": 1, "score": 0.9}, {"index": 2, "score": 0.5}, {"index": 0, "score": 0.1}]
    assert response.json() == ranks
    response = await http.post("/models/sentence-similarity/rerank", json={**body, "return_text": True})
    assert [rank["text"] for rank in response.json()] == ["yes", "maybe", "no"]


@pytest.mark.parametrize("prefix", ["/models/sentence-similarity", ""])
async def test_rerank_with_documents_has_cohere_format(http, router, prefix: str) -> None:
    router.outputs["sentence-similarity"] = lambda _: similarities(0.1, 0.9, 0.5)
    router.default_model = "sentence-similarity"
    body = {"query": ONE, "documents": ["no", {"text": "yes"}, "maybe"], "top_n": 2}
    ranking = (await http.post(f"{prefix}/rerank", json=body)).json()
    assert (ranking["model"], ranking["usage"]) == ("sentence-similarity", {"total_tokens": 7})
    assert ranking["id"]
    assert ranking["results"] == [
        {"index": 1, "relevance_score": 0.9, "document": {"text": "yes"}},
        {"index": 2, "relevance_score": 0.5, "document": {"text": "maybe"}},
    ]
    ranking = (await http.post(f"{prefix}/rerank", json={**body, "return_documents": False})).json()
    assert not any(result.get("document") for result in ranking["results"])


async def test_rerank_body_names_model_if_path_does_not(http) -> None:
    body = {"query": ONE, "documents": ["no"], "model": "sentence-similarity"}
    assert (await http.post("/rerank", json=body)).json()["model"] == "sentence-similarity"
    response = await http.post("/rerank", json={**body, "model": "unknown"})
    assert (response.status_code, response.json()["error_type"]) == (404, "Validation")
    response = await http.post("/rerank", json={**body, "model": None})
    assert (response.status_code, response.json()["error_type"]) == (424, "Backend"), (
        "an embedding model cannot rank"
    )


@pytest.mark.parametrize(
    ("inputs", "labels", "texts"),
    [
        (TWO, LABELS, [TWO]),
        ([TWO], LABELS, [TWO]),
        ([[TWO]], [LABELS], [TWO]),
        ([[TWO], ["I hate pineapples"]], [LABELS, LABELS], [TWO, "I hate pineapples"]),
    ],
    ids=str,
)
async def test_predict(http, router, inputs: Any, labels: Any, texts: list[str]) -> None:
    response = await http.post("/models/sentiment/predict", json={"inputs": inputs, "truncate": False})
    assert (response.status_code, response.json()) == (200, labels)
    assert last_texts(router) == texts
    assert last_params(router) == TASKS["sentiment"].params()


async def test_raw_scores_apply_no_function(http, router) -> None:
    await http.post("/models/sentiment/predict", json={"inputs": TWO, "raw_scores": True})
    assert last_params(router).function_to_apply == "none"


@pytest.mark.parametrize("inputs", [[ONE, TWO], [[ONE, TWO]], [[ONE], [ONE, TWO]], [ONE, TWO, ONE], [[]]])
async def test_predict_refuses_pairs_of_texts(http, router, inputs: Any) -> None:
    response = await http.post("/models/sentiment/predict", json={"inputs": inputs})
    assert response.status_code == (400 if inputs == [[]] else 422)
    assert not router.received
    if inputs != [[]]:
        assert "pair" in response.json()["error"]


async def test_tokenize(http) -> None:
    special = {"id": 0, "text": "[S]", "special": True, "start": None, "stop": None}
    word = {"id": 2, "text": "hi", "special": False, "start": 0, "stop": 2}
    for inputs, count in (("hi", 1), (["hi", "hi"], 2)):
        response = await http.post("/models/sentiment/tokenize", json={"inputs": inputs})
        assert response.json() == [[special, word, special]] * count
    response = await http.post("/tokenize", json={"inputs": "hi", "add_special_tokens": False})
    assert response.json() == [[word]]


async def test_decode(http) -> None:
    assert (await http.post("/decode", json={"ids": [0, 2, 3, 0]})).json() == ["xx xxx"]
    body = {"ids": [[0, 2], [1]], "skip_special_tokens": False}
    assert (await http.post("/models/summarization/decode", json=body)).json() == ["[S] xx", "x"]


async def test_content_type_is_optional(http) -> None:
    assert (await http.post("/embed", content=b'{"inputs": "hi"}')).json() == [VECTOR]


async def test_headers_have_times_and_numbers_of_characters_and_tokens(http, router) -> None:
    for path, body, characters, tokens in (
        ("/embed", {"inputs": ["four", "sixsix"]}, 10, 14),
        ("/models/sentiment/predict", {"inputs": "four"}, 4, 7),
        ("/models/sentence-similarity/rerank", {"query": "four", "texts": ["a", "b"]}, 6, 7),
    ):
        headers = (await http.post(path, json=body)).headers
        assert headers["x-compute-type"] == "cpu"
        assert headers["x-compute-characters"] == str(characters)
        assert headers["x-compute-tokens"] == str(tokens)
        assert (headers["x-tokenization-time"], headers["x-queue-time"]) == ("125", "125")
        assert headers["x-inference-time"] == "500"
        assert 0 <= int(headers["x-total-time"]) < 10_000
