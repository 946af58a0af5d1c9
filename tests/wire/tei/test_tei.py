"""Text Embeddings Inference, judged by the calls of its own documentation and by the clients people use."""

import asyncio
from typing import Any

import httpx
import pytest
from huggingface_hub import InferenceClient
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from starlette.applications import Starlette

from deployments.card import Card
from deployments.dialects.tei import dialect
from deployments.errors import Forbidden, InvalidInput, ModelNotFound, Overloaded, TimedOut
from deployments.gateway import http_app as web
from deployments.schema import MAX_ITEMS, MAX_TEXT
from deployments.task import TASKS
from deployments.wire.model_info import model_type_of
from tests.fake_router import FakeRouter

ONE, TWO = "What is Deep Learning?", "I like you."
VECTOR = [0.5, 0.5]
LABELS = [{"label": "word", "score": 0.5}] * 2


class Homeless(FakeRouter):
    """A cluster without a default model."""

    @property
    def default_model(self) -> str:
        raise ModelNotFound("no model is named, and this cluster has no `default_model`")

    @default_model.setter
    def default_model(self, _: str) -> None:
        pass


def client_of(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door", verify=False)


def params(router: FakeRouter) -> Any:
    return router.asked[-1][2]


def texts(router: FakeRouter) -> list[str]:
    return [item.text for item in router.asked[-1][1]]


def vectors(*numbers: list[float]) -> Any:
    return TASKS["embeddings"].output(tokens=[{"index": i, "values": v} for i, v in enumerate(numbers)])


def similar(*scores: float) -> Any:
    return TASKS["sentence-similarity"].output(similarities=list(scores))


# ------------------------------------------------------------------------- the calls of its documentation


@pytest.mark.parametrize("place", ["", "/models/embeddings"])
@pytest.mark.parametrize(
    ("inputs", "asked"), [(ONE, [ONE]), ([ONE, TWO], [ONE, TWO]), ([TWO], [TWO])], ids=str
)
async def test_embed(http, router, place: str, inputs: Any, asked: list[str]) -> None:
    answered = await http.post(f"{place}/embed", json={"inputs": inputs})
    assert (answered.status_code, answered.json()) == (200, [VECTOR] * len(asked))
    assert texts(router) == asked
    assert (params(router).normalize, params(router).truncate) == (True, False)


@pytest.mark.parametrize(
    ("inputs", "asked"),
    [
        ([4, 3], ["xxxx xxx"]),
        ([[4, 3], [2]], ["xxxx xxx", "xx"]),
        ([[4], ONE, [0, 1]], ["xxxx", ONE, "x"]),
    ],
    ids=str,
)
async def test_token_ids_are_texts_as_well(http, router, inputs: Any, asked: list[str]) -> None:
    answered = await http.post("/embed", json={"inputs": inputs})
    assert answered.status_code == 200, answered.text
    assert texts(router) == asked


async def test_embed_with_all_parameters(http, router) -> None:
    asked = {
        "normalize": False,
        "truncate": True,
        "truncation_direction": "left",
        "prompt_name": "query",
        "dimensions": 2,
    }
    for told in (asked, {**asked, "truncation_direction": "Left"}):  # as its older servers spell it
        assert (await http.post("/embed", json={"inputs": ONE, **told})).json() == [VECTOR]
        assert params(router).model_dump(exclude={"pooling"}) == asked
    await http.post("/embed", json={"inputs": ONE, "truncate": None, "prompt_name": None})
    assert params(router).truncate is False


async def test_embed_all(http, router) -> None:
    router.outputs["embeddings"] = lambda _: vectors([1.0, 2.0], [3.0, 4.0])
    answered = await http.post("/embed_all", json={"inputs": [ONE, TWO]})
    assert answered.json() == [[[1.0, 2.0], [3.0, 4.0]]] * 2
    assert params(router).pooling == "none"
    assert params(router).normalize is None, "tokens' vectors are as they are"


@pytest.mark.parametrize(
    ("place", "named"), [("", {}), ("", {"model": "embeddings"}), ("/models/embeddings", {"model": "any"})]
)
async def test_embeddings_in_the_form_of_openai(http, router, place: str, named: dict[str, str]) -> None:
    if named:
        router.default_model = "sentiment"
    told = (await http.post(f"{place}/embeddings", json={"input": [ONE, TWO], **named})).json()
    assert (told["model"], [one["embedding"] for one in told["data"]]) == ("embeddings", [VECTOR] * 2)
    assert texts(router) == [ONE, TWO]
    answered = await http.post(f"{place}/embeddings", json=[])
    assert (answered.status_code, answered.json()["error_type"]) == (422, "Validation")


async def test_embed_sparse_is_refused(http) -> None:
    answered = await http.post("/embed_sparse", json={"inputs": TWO})
    assert answered.status_code == 424
    assert answered.json()["error_type"] == "Backend"
    assert "sparse" in answered.json()["error"]


async def test_similarity(http, router) -> None:
    router.outputs["sentence-similarity"] = lambda _: similar(0.9, 0.2)
    inputs = {"source_sentence": ONE, "sentences": ["What is Machine Learning?", TWO]}
    for more in ({}, {"parameters": None}, {"parameters": {"truncate": True}}):
        answered = await http.post("/models/sentence-similarity/similarity", json={"inputs": inputs, **more})
        assert answered.json() == [0.9, 0.2], answered.text
    assert router.asked[0][1][0].model_dump() == inputs


async def test_rerank(http, router) -> None:
    router.outputs["sentence-similarity"] = lambda _: similar(0.1, 0.9, 0.5)
    body = {"query": ONE, "texts": ["no", "yes", "maybe"], "raw_scores": False}
    answered = await http.post("/models/sentence-similarity/rerank", json=body)
    ranks = [{"index": 1, "score": 0.9}, {"index": 2, "score": 0.5}, {"index": 0, "score": 0.1}]
    assert answered.json() == ranks
    answered = await http.post("/models/sentence-similarity/rerank", json={**body, "return_text": True})
    assert [rank["text"] for rank in answered.json()] == ["yes", "maybe", "no"]


@pytest.mark.parametrize("place", ["/models/sentence-similarity", ""])
async def test_rerank_in_the_form_of_cohere_and_jina(http, router, place: str) -> None:
    router.outputs["sentence-similarity"] = lambda _: similar(0.1, 0.9, 0.5)
    router.default_model = "sentence-similarity"
    body = {"query": ONE, "documents": ["no", {"text": "yes"}, "maybe"], "top_n": 2}
    told = (await http.post(f"{place}/rerank", json=body)).json()
    assert (told["model"], told["usage"]) == ("sentence-similarity", {"total_tokens": 7})
    assert told["id"]
    assert told["results"] == [
        {"index": 1, "relevance_score": 0.9, "document": {"text": "yes"}},
        {"index": 2, "relevance_score": 0.5, "document": {"text": "maybe"}},
    ]
    told = (await http.post(f"{place}/rerank", json={**body, "return_documents": False})).json()
    assert not any(result.get("document") for result in told["results"])


async def test_where_the_path_names_no_model_the_body_of_a_rerank_may(http) -> None:
    body = {"query": ONE, "documents": ["no"], "model": "sentence-similarity"}
    assert (await http.post("/rerank", json=body)).json()["model"] == "sentence-similarity"
    answered = await http.post("/rerank", json={**body, "model": "nobody"})
    assert (answered.status_code, answered.json()["error_type"]) == (404, "Validation")
    answered = await http.post("/rerank", json={**body, "model": None})
    assert (answered.status_code, answered.json()["error_type"]) == (424, "Backend"), "embeddings cannot"


@pytest.mark.parametrize(
    ("inputs", "answer", "asked"),
    [
        (TWO, LABELS, [TWO]),
        ([TWO], LABELS, [TWO]),
        ([[TWO]], [LABELS], [TWO]),
        ([[TWO], ["I hate pineapples"]], [LABELS, LABELS], [TWO, "I hate pineapples"]),
    ],
    ids=str,
)
async def test_predict(http, router, inputs: Any, answer: Any, asked: list[str]) -> None:
    answered = await http.post("/models/sentiment/predict", json={"inputs": inputs, "truncate": False})
    assert (answered.status_code, answered.json()) == (200, answer)
    assert texts(router) == asked
    assert params(router) == TASKS["sentiment"].params()


async def test_raw_scores(http, router) -> None:
    await http.post("/models/sentiment/predict", json={"inputs": TWO, "raw_scores": True})
    assert params(router).function_to_apply == "none"


@pytest.mark.parametrize("inputs", [[ONE, TWO], [[ONE, TWO]], [[ONE], [ONE, TWO]], [ONE, TWO, ONE], [[]]])
async def test_pairs_are_refused(http, router, inputs: Any) -> None:
    answered = await http.post("/models/sentiment/predict", json={"inputs": inputs})
    assert answered.status_code == (400 if inputs == [[]] else 422)
    assert not router.asked
    if inputs != [[]]:
        assert "pair" in answered.json()["error"]


async def test_tokenize(http) -> None:
    sign = {"id": 0, "text": "[S]", "special": True, "start": None, "stop": None}
    word = {"id": 2, "text": "hi", "special": False, "start": 0, "stop": 2}
    for inputs, rows in (("hi", 1), (["hi", "hi"], 2)):
        answered = await http.post("/models/sentiment/tokenize", json={"inputs": inputs})
        assert answered.json() == [[sign, word, sign]] * rows
    answered = await http.post("/tokenize", json={"inputs": "hi", "add_special_tokens": False})
    assert answered.json() == [[word]]


async def test_decode(http) -> None:
    assert (await http.post("/decode", json={"ids": [0, 2, 3, 0]})).json() == ["xx xxx"]
    body = {"ids": [[0, 2], [1]], "skip_special_tokens": False}
    assert (await http.post("/models/summarization/decode", json=body)).json() == ["[S] xx", "x"]


async def test_a_request_needs_no_content_type(http) -> None:
    assert (await http.post("/embed", content=b'{"inputs": "hi"}')).json() == [VECTOR]


async def test_headers_tell_what_it_took(http, router) -> None:
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


# ---------------------------------------------------------------------------------------- what is too long


LONG = "word " * 600  # a token each, and two signs around them
VERY_LONG = "word " * (MAX_TEXT // 5 + 1)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/models/sentiment/predict", {"inputs": [["short"], [LONG]]}),
        ("/models/sentence-similarity/rerank", {"query": LONG, "texts": ["short"]}),
        ("/models/sentence-similarity/rerank", {"query": "short", "texts": ["short", LONG]}),
    ],
)
async def test_what_a_task_would_cut_is_refused_unless_it_may_be_cut(
    http, router, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    monkeypatch.setattr(router, "tokenize", None)  # their number is enough
    answered = await http.post(path, json=body)
    assert (answered.status_code, answered.json()["error_type"]) == (422, "Validation")
    assert "602 tokens" in answered.json()["error"]
    assert "512" in answered.json()["error"]
    assert not router.asked
    assert (await http.post(path, json={**body, "truncate": True})).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"inputs": VERY_LONG}),
        ("/tokenize", {"inputs": ["short", VERY_LONG]}),
        ("/models/sentiment/predict", {"inputs": VERY_LONG}),
        ("/models/sentiment/predict", {"inputs": [["short"], [VERY_LONG]]}),
        ("/models/sentence-similarity/rerank", {"query": VERY_LONG, "texts": ["short"]}),
        ("/models/sentence-similarity/rerank", {"query": "short", "texts": [VERY_LONG]}),
        (
            "/models/sentence-similarity/similarity",
            {"inputs": {"source_sentence": "short", "sentences": [VERY_LONG]}},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_text_of_over_a_million_characters_is_not_cut_into_tokens(
    http, path: str, body: dict[str, Any]
) -> None:
    answered = await http.post(path, json=body)
    assert (answered.status_code, answered.json()["error_type"]) == (413, "Validation")
    assert "characters" in answered.json()["error"]


async def test_a_text_of_many_bytes_and_few_tokens_is_not_too_long(http) -> None:
    assert (await http.post("/models/sentiment/predict", json={"inputs": "\u6587" * 600})).status_code == 200


async def test_where_the_task_knows_truncate_it_decides(http, router) -> None:
    router.outputs["embeddings"] = lambda _: InvalidInput("the text has 602 tokens")
    answered = await http.post("/embed", json={"inputs": LONG})
    assert (answered.status_code, answered.json()["error_type"]) == (422, "Validation")
    assert params(router).truncate is False


# -------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (InvalidInput("no"), 422, "Validation"),
        (Forbidden("no"), 403, "Validation"),
        (Overloaded("full"), 429, "Overloaded"),
        (TimedOut("late"), 504, "Backend"),
        (ValueError("secret"), 424, "Backend"),
    ],
)
@pytest.mark.parametrize("inputs", [ONE, [ONE, TWO]], ids=["lone", "list"])
async def test_errors(http, router, inputs: Any, error: Exception, status: int, error_type: str) -> None:
    def fail(item: Any) -> Any:
        if inputs == ONE or item.text == TWO:
            raise error
        return TASKS["embeddings"].output(embedding=VECTOR)

    router.outputs["embeddings"] = fail
    answered = await http.post("/embed", json={"inputs": inputs}, headers={"x-request-id": "17"})
    said = "internal error, request id 17" if error_type == "Backend" and status == 424 else str(error)
    assert (answered.status_code, answered.json()) == (status, {"error": said, "error_type": error_type})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embed", {"inputs": []}),
        ("/embed", {"inputs": ""}),
        ("/embed", {"inputs": [ONE, ""]}),
        ("/embed", {"inputs": [[]]}),
        ("/tokenize", {"inputs": []}),
        ("/decode", {"ids": []}),
        ("/models/sentiment/predict", {"inputs": []}),
        ("/models/sentence-similarity/rerank", {"query": "", "texts": ["a"]}),
        ("/models/sentence-similarity/rerank", {"query": "a", "texts": []}),
        ("/models/sentence-similarity/similarity", {"inputs": {"source_sentence": "a", "sentences": [""]}}),
    ],
    ids=str,
)
async def test_nothing_is_empty(http, router, path: str, body: Any) -> None:
    answered = await http.post(path, json=body)
    assert (answered.status_code, answered.json()["error_type"]) == (400, "Empty")
    assert not router.asked


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/embed", {}, "inputs"),
        ("/embed", [], "valid dictionary"),
        ("/embed", {"inputs": 7}, "a text, a list of texts, a list of token ids"),
        ("/embed", {"inputs": [-1]}, "token ids"),
        ("/embed", {"inputs": [True]}, "token ids"),
        ("/embed", {"inputs": [1, "a"]}, "token ids"),
        ("/embed", {"inputs": {"a": 1}}, "token ids"),
        ("/embed", {"inputs": ONE, "normalise": True}, "normalise"),
        ("/embed", {"inputs": ONE, "dimensions": 0}, "dimensions"),
        ("/embed", {"inputs": ONE, "truncation_direction": "up"}, "truncation_direction"),
        ("/embed", {"inputs": ONE, "encoding_format": "base64"}, "encoding_format"),
        ("/decode", {"ids": ["a"]}, "token ids"),
        ("/tokenize", {"inputs": "a", "prompt_name": "query"}, "prompt_name"),
        ("/models/sentiment/predict", {"inputs": [[1]]}, "inputs"),
        (
            "/models/sentiment/predict",
            {"inputs": "a", "truncation_direction": "left"},
            "truncation_direction",
        ),
        ("/models/sentence-similarity/rerank", {"query": "a", "texts": "b"}, "a list of texts"),
        (
            "/models/sentence-similarity/similarity",
            {"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": {"prompt_name": "query"}},
            "prompt_name",
        ),
    ],
    ids=str,
)
async def test_a_wrong_request_is_told(http, router, path: str, body: Any, told: str) -> None:
    answered = await http.post(path, json=body)
    assert (answered.status_code, answered.json()["error_type"]) == (422, "Validation")
    assert told in answered.json()["error"]
    assert not router.asked


async def test_what_is_no_json(http) -> None:
    assert (await http.post("/embed", content=b"hi")).json()["error_type"] == "Validation"
    zipped = await http.post("/embed", content=b"{}", headers={"content-encoding": "gzip"})
    assert (zipped.status_code, zipped.json()["error_type"]) == (415, "Validation")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embed", {"inputs": ["a"] * (MAX_ITEMS + 1)}),
        ("/embed", {"inputs": [1] * 1_000_001}),
        ("/tokenize", {"inputs": ["a"] * (MAX_ITEMS + 1)}),
        ("/decode", {"ids": [[1]] * (MAX_ITEMS + 1)}),
        ("/models/sentiment/predict", {"inputs": [["a"]] * (MAX_ITEMS + 1)}),
        ("/models/sentence-similarity/rerank", {"query": "a", "texts": ["a"] * (MAX_ITEMS + 1)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_too_much(http, router, path: str, body: Any) -> None:
    answered = await http.post(path, json=body)
    assert (answered.status_code, answered.json()["error_type"]) == (413, "Validation")
    assert not router.asked


async def test_the_tokenizer_s_refusal(http) -> None:
    for path, body in (
        ("/embed", {"inputs": [101]}),
        ("/decode", {"ids": [101]}),
        ("/models/object-detection/tokenize", {"inputs": "a"}),
    ):
        answered = await http.post(path, json=body)
        assert (answered.status_code, answered.json()["error_type"]) == (422, "Tokenizer"), path


@pytest.mark.parametrize(
    "route", ["embed", "embed_all", "predict", "rerank", "similarity", "tokenize", "decode"]
)
async def test_a_model_that_cannot_be_asked(http, route: str) -> None:
    for model_id, status, error_type in (
        ("nobody", 404, "Validation"),
        ("broken", 503, "Unhealthy"),
    ):
        answered = await http.post(f"/models/{model_id}/{route}", json={})
        assert (answered.status_code, answered.json()["error_type"]) == (status, error_type)


# ------------------------------------------------------------------------------------- the default model


@pytest.mark.parametrize("path", ["/", "/invocations"])
async def test_the_main_route_is_by_what_the_model_is(http, router, path: str) -> None:
    assert (await http.post(path, json={"inputs": ONE})).json() == [VECTOR]
    router.default_model = "sentiment"
    assert (await http.post(path, json={"inputs": ONE})).json() == LABELS
    router.default_model = "sentence-similarity"
    answered = await http.post(path, json={"query": ONE, "texts": [TWO, TWO]})
    assert answered.json() == [{"index": 0, "score": 0.5}, {"index": 1, "score": 0.5}]
    router.default_model = "object-detection"
    answered = await http.post(path, json={"inputs": ONE})
    assert (answered.status_code, answered.json()["error_type"]) == (424, "Backend")
    assert "object-detection" in answered.json()["error"]


@pytest.mark.parametrize("path", ["/", "/embed", "/embeddings", "/rerank", "/tokenize", "/invocations"])
async def test_without_a_default_model_one_must_be_named(path: str) -> None:
    async with client_of(web.build(Homeless(), [dialect])) as http:
        answered = await http.post(path, json={"inputs": ONE})
        assert answered.status_code == 404
        assert "default_model" in answered.json()["error"]
        assert (await http.get("/info")).status_code == 404


async def test_ping(http, router) -> None:
    assert (await http.get("/ping")).json() == {"status": "ready"}
    for model_id, status in (("broken", 503), ("loading", 503), ("nobody", 404)):
        router.default_model = model_id
        assert (await http.get("/ping")).status_code == status


async def test_ping_without_a_default_model_asks_whether_the_cluster_has_settled() -> None:
    router = Homeless()
    async with client_of(web.build(router, [dialect])) as http:
        assert (await http.get("/ping")).status_code == 200
        router.startup_complete = False
        answered = await http.get("/ping")
        assert (answered.status_code, answered.json()["error_type"]) == (503, "Unhealthy")


async def test_info_has_their_servers_fields(http, router) -> None:
    info = (await http.get("/info")).json()
    assert info == (await http.get("/models/embeddings/info")).json()
    assert (info["model_id"], info["model_sha"], info["model_dtype"]) == (
        "example/embeddings",
        "714eb0f",
        "float32",
    )
    assert [*info["model_type"]] == ["embedding"]
    limits = ("max_input_length", "max_batch_tokens", "max_batch_requests", "max_client_batch_size")
    assert [info[name] for name in limits] == [512, 8192, 32, 1000]
    assert (info["auto_truncate"], info["tokenization_workers"]) == (False, 1)
    assert info["version"]
    assert info["max_concurrent_requests"] is None
    for model_id, type_ in (("sentiment", "classifier"), ("sentence-similarity", "reranker")):
        assert [*(await http.get(f"/models/{model_id}/info")).json()["model_type"]] == [type_]
    assert (await http.get("/models/object-detection/info")).json()["model_type"] is None
    card: Card = router.cards["embeddings"]
    most = {"max_ongoing_requests": 4, "max_queued_requests": 100}
    router.cards["busy"] = card.model_copy(update={"id": "busy", **most})
    try:
        assert (await http.get("/models/busy/info")).json()["max_concurrent_requests"] == 104
    finally:
        del router.cards["busy"]


def test_kinds_are_read_off_the_schemas() -> None:
    kinds = {name: model_type_of(task) for name, task in TASKS.items()}
    assert {name: found for name, found in kinds.items() if found} == {
        "embeddings": "embedding",
        "sentence-similarity": "reranker",
        "sentiment": "classifier",
    }


# ---------------------------------------------------------------------------------------- people's clients


def test_the_hub_s_client(url: str, router: FakeRouter) -> None:
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
    asked = params(router)
    assert (asked.normalize, asked.prompt_name, asked.dimensions) == (False, "query", 2)
    assert (asked.truncate, asked.truncation_direction) == (True, "left")
    similarity = InferenceClient(model=f"{url}/models/sentence-similarity/similarity", token="none")
    assert similarity.sentence_similarity(ONE, other_sentences=[TWO, TWO]) == [0.5, 0.5]


@pytest.mark.parametrize("place", ["", "/models/embeddings"])
def test_llama_index(url: str, router: FakeRouter, place: str) -> None:
    client = TextEmbeddingsInference(
        model_name="BAAI/bge-large-en-v1.5",
        base_url=f"{url}{place}",
        text_instruction=" ",
        auth_token="none",
    )
    assert client.get_text_embedding("Hello World!") == VECTOR
    assert client.get_text_embedding_batch([ONE, TWO]) == [VECTOR] * 2
    assert client.get_query_embedding(ONE) == VECTOR
    assert asyncio.run(client.aget_text_embedding("Hello World!")) == VECTOR
    assert params(router).truncate is True
