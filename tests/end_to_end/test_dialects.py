"""Every dialect with the client libraries that people use, against a real cluster."""

import asyncio
import http.client
import json
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import tritonclient.http as triton_http
from huggingface_hub import InferenceClient
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

from tests.end_to_end.cluster import ROOT, Cluster, in_modes, wait_for
from tests.end_to_end.test_requests import (
    DISSIMILAR,
    NEGATIVE,
    NEWS,
    POSITIVE,
    PROMPT,
    QUERY,
    QUESTION,
    SIMILAR,
    Caikit,
    example_image,
)
from tests.wire.open_inference.triton_stubs import load_stubs

triton_grpc, _ = load_stubs()

pytestmark = [
    pytest.mark.cluster,
    in_modes("fast", "slow"),
    pytest.mark.filterwarnings("ignore"),  # raised inside the clients
]


@pytest.fixture
def ai(cluster: Cluster) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def over_http(cluster: Cluster) -> Iterator[Any]:
    client = triton_http.InferenceServerClient(cluster.url.removeprefix("http://"))
    yield client
    client.close()


@pytest.fixture
def over_grpc(cluster: Cluster) -> Iterator[Any]:
    client = triton_grpc.InferenceServerClient(cluster.grpc_address)
    yield client
    client.close()


def test_openai_chat(ai: openai.OpenAI) -> None:
    request = {"model": "conversational", "messages": [{"role": "user", "content": QUESTION}]}
    whole = ai.chat.completions.create(**request)
    assert "Rome" in whole.choices[0].message.content
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 4
    chunks = list(ai.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == (
        whole.choices[0].message.content
    )
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    response = ai.responses.create(model="conversational", input=QUESTION)
    assert "Rome" in response.output_text


def test_openai_completions(ai: openai.OpenAI) -> None:
    request = {"model": "text_generation", "prompt": PROMPT, "seed": 5, "max_tokens": 12, "temperature": 0.8}
    whole = ai.completions.create(**request, logprobs=2)
    assert whole.usage.completion_tokens == len(whole.choices[0].logprobs.tokens) <= 12
    streamed = ai.completions.create(**request, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == whole.choices[0].text
    several = ai.completions.create(**request, n=3)
    assert len({choice.text for choice in several.choices}) > 1
    assert several.choices[0].text == whole.choices[0].text
    stopped = ai.completions.create(**{**request, "max_tokens": 60}, stop=["."])
    assert "." not in stopped.choices[0].text


async def test_openai_async_client(cluster: Cluster) -> None:
    async with openai.AsyncOpenAI(base_url=f"{cluster.url}/models/conversational/v1", api_key="a") as client:
        request = {"model": "any", "messages": [{"role": "user", "content": QUESTION}]}
        completions = await asyncio.gather(*(client.chat.completions.create(**request) for _ in range(8)))
        assert all("Rome" in completion.choices[0].message.content for completion in completions)


def test_openai_client_raises_typed_errors(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        ai.chat.completions.create(model="missing", messages=[{"role": "user", "content": "x"}])
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError):
        ai.chat.completions.create(model="sentiment", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.BadRequestError) as hot:
        ai.chat.completions.create(model="conversational", messages=[], temperature=0.5)
    assert hot.value.type == "invalid_request_error"


def test_langchain_openai(cluster: Cluster) -> None:
    options = {"base_url": f"{cluster.url}/v1", "api_key": "any", "max_retries": 0}
    chat = ChatOpenAI(model="conversational", **options)
    assert "Rome" in chat.invoke(QUESTION).content
    assert "Rome" in "".join(chunk.content for chunk in chat.stream(QUESTION))
    embedder = OpenAIEmbeddings(model="embeddings", check_embedding_ctx_length=False, **options)
    alike, unlike = embedder.embed_documents([QUERY, DISSIMILAR])
    assert len(alike) == len(unlike) == 72


def test_llama_index_tei_embeddings(cluster: Cluster) -> None:
    url, instructions = (
        f"{cluster.url}/models/embeddings",
        {"text_instruction": " ", "query_instruction": " "},
    )
    client = TextEmbeddingsInference(model_name="embeddings", base_url=url, auth_token="none", **instructions)
    (vector,) = cluster.http.post("/models/embeddings/embed", json={"inputs": QUERY}).json()
    assert np.allclose(client.get_text_embedding(QUERY), vector, atol=1e-6)
    assert len(client.get_text_embedding_batch([QUERY, DISSIMILAR, QUESTION])) == 3
    ranking = cluster.http.post(
        "/models/sentence_similarity/rerank",
        json={"query": QUERY, "texts": [DISSIMILAR, SIMILAR], "return_text": True},
    ).json()
    assert [rank["text"] for rank in ranking] == [SIMILAR, DISSIMILAR]


def test_huggingface_hub_chat(cluster: Cluster) -> None:
    client = InferenceClient(f"{cluster.url}/models/conversational", provider="hf-inference")
    messages = [{"role": "user", "content": QUESTION}]
    assert "Rome" in client.chat_completion(messages).choices[0].message.content
    chunks = client.chat_completion(messages, stream=True)
    assert "Rome" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def string_tensor(library: Any, name: str, values: list[bytes]) -> Any:
    tensor = library.InferInput(name, [len(values)], "BYTES")
    tensor.set_data_from_numpy(np.array(values, dtype=object))
    return tensor


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_triton_clients(cluster: Cluster, transport: str, request: pytest.FixtureRequest) -> None:
    client = request.getfixturevalue(f"over_{transport}")
    library = {"http": triton_http, "grpc": triton_grpc}[transport]
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("sentiment")
    assert not client.is_model_ready("missing")
    requested = [library.InferRequestedOutput("labels"), library.InferRequestedOutput("scores")]
    result = client.infer(
        "sentiment",
        [string_tensor(library, "text", [POSITIVE.encode(), NEGATIVE.encode()])],
        outputs=requested,
    )
    assert [row[0].decode() for row in result.as_numpy("labels")] == ["POSITIVE", "NEGATIVE"]
    assert result.as_numpy("scores").dtype == np.float32
    (labels,) = client.infer(
        "image_classification", [string_tensor(library, "image", [example_image()])]
    ).as_numpy("output")
    assert b"square" in labels[0]
    assert (
        b"Lisbon"
        in client.infer("summarization", [string_tensor(library, "args", [NEWS.encode()])]).as_numpy(
            "output"
        )[0][0]
    )
    client.get_model_metadata("sentiment")
    client.get_inference_statistics("sentiment")
    names = client.get_model_repository_index()
    assert len(names.models if transport == "grpc" else names) >= 9


def test_triton_streams(cluster: Cluster, over_grpc: Any, ai: openai.OpenAI) -> None:
    results: queue.Queue[tuple[Any, Any]] = queue.Queue()
    over_grpc.start_stream(lambda result, error: results.put((result, error)))
    inputs = [string_tensor(triton_grpc, "text", [PROMPT.encode()])]
    parameters = {"max_new_tokens": 12, "seed": 5, "temperature": 0.8, "do_sample": True}
    over_grpc.async_stream_infer("text_generation", inputs, request_id="generation", parameters=parameters)
    inputs = [string_tensor(triton_grpc, "text", [POSITIVE.encode()])]
    over_grpc.async_stream_infer("sentiment", inputs, request_id="classification")
    received: dict[str, list[Any]] = {"generation": [], "classification": []}
    last = False
    while not (last and received["classification"]):
        result, error = results.get(timeout=20)
        assert error is None
        response = result.get_response()
        received[response.id].append(result)
        final = response.parameters["triton_final_response"].bool_param
        last = last or (final and response.id == "generation")
    over_grpc.stop_stream()
    text = "".join(chunk.as_numpy("generated_text")[0][0].decode() for chunk in received["generation"])
    assert 1 < len(received["generation"]) <= 12
    whole = ai.completions.create(
        model="text_generation", prompt=PROMPT, seed=5, max_tokens=12, temperature=0.8
    )
    assert text == whole.choices[0].text


def classify(cluster: Cluster, text: str) -> Any:
    response = cluster.http.post("/models/sentiment", json={"inputs": text})
    return response.status_code == httpx.codes.OK and response.json()


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_model_control_needs_the_operators_permission(
    cluster: Cluster, transport: str, request: pytest.FixtureRequest
) -> None:
    client = request.getfixturevalue(f"over_{transport}")
    if cluster.mode == "fast":
        with pytest.raises(Exception, match="allow_model_control"):
            client.unload_model("sentiment")
        return
    client.unload_model("sentiment")
    # The call returns when one Router knows; the other Router may answer next.
    wait_for(lambda: not client.is_model_ready("sentiment"), 20, "not ready")
    wait_for(lambda: ".unloaded" in cluster.card("sentiment")["reason"], 20, "the reason")
    wait_for(lambda: not cluster.pids("sentiment:model"), 20, "the end of its processes")
    client.load_model("sentiment")
    wait_for(lambda: client.is_model_ready("sentiment"), 20, "ready again")
    labels = wait_for(lambda: classify(cluster, POSITIVE), 20, "a response")
    assert labels[0][0]["label"] == "POSITIVE"


def test_root_routes_use_the_default_model(cluster: Cluster) -> None:
    (vector,) = cluster.http.post("/embed", json={"inputs": QUERY}).json()
    assert [vector] == cluster.http.post("/models/embeddings/embed", json={"inputs": QUERY}).json()
    assert cluster.http.get("/info").json()["served_model_name"] == "embeddings"


def test_all_dialects_return_the_same_vector(
    cluster: Cluster, ai: openai.OpenAI, over_http: Any, over_grpc: Any
) -> None:
    hub = InferenceClient(f"{cluster.url}/models/embeddings", provider="hf-inference")
    post = cluster.http.post
    vectors = {
        "huggingface": hub.feature_extraction(QUERY)[0],
        "openai base64": ai.embeddings.create(model="embeddings", input=QUERY).data[0].embedding,
        "openai float": ai.embeddings.create(model="embeddings", input=QUERY, encoding_format="float")
        .data[0]
        .embedding,
        "tei": post("/models/embeddings/embed", json={"inputs": QUERY}).json()[0],
        "tei, tokens": post(
            "/models/embeddings/embed",
            json={
                "inputs": [
                    [
                        token["id"]
                        for token in post("/models/embeddings/tokenize", json={"inputs": QUERY}).json()[0]
                        if not token["special"]
                    ]
                ]
            },
        ).json()[0],
    }
    for name, client, library in (("http", over_http, triton_http), ("grpc", over_grpc, triton_grpc)):
        result = client.infer(
            "embeddings",
            [string_tensor(library, "text", [QUERY.encode()])],
            outputs=[library.InferRequestedOutput("embedding")],
        )
        vectors[f"open inference, {name}"] = result.as_numpy("embedding")[0]
    for name, vector in vectors.items():
        assert np.allclose(vector, vectors["huggingface"], atol=1e-6), name


def test_all_dialects_return_the_same_scores(
    cluster: Cluster, ai: openai.OpenAI, over_http: Any, over_grpc: Any
) -> None:
    hub = InferenceClient(f"{cluster.url}/models/sentiment", provider="hf-inference")
    result = over_http.infer(
        "sentiment",
        [string_tensor(triton_http, "text", [NEGATIVE.encode()])],
        outputs=[triton_http.InferRequestedOutput("labels"), triton_http.InferRequestedOutput("scores")],
    )
    caikit = Caikit(cluster.channel).call("Sentiment", {"text_in": NEGATIVE}, ("mm-model-id", "sentiment"))
    scores = [
        {label.label: label.score for label in hub.text_classification(NEGATIVE)},
        {label["class_name"]: label["confidence"] for label in caikit["classes"]},
        ai.moderations.create(model="sentiment", input=NEGATIVE).results[0].category_scores.model_extra,
        {
            label["label"]: label["score"]
            for label in cluster.http.post("/models/sentiment/predict", json={"inputs": NEGATIVE}).json()
        },
        dict(
            zip(
                (label.decode() for label in result.as_numpy("labels")[0]),
                result.as_numpy("scores")[0].tolist(),
                strict=True,
            )
        ),
    ]
    for dialect_scores in scores:
        assert dialect_scores["NEGATIVE"] == pytest.approx(scores[0]["NEGATIVE"], abs=1e-6)


@pytest.fixture
def endless(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Serve a model that generates thousands of tokens: random weights, a long context, no end token.

    Every test has another model id, so that no test uses the replicas of an earlier one.
    """
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig.from_pretrained(
        ROOT / "models" / "text_generation",
        num_hidden_layers=4,
        hidden_size=256,
        intermediate_size=512,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=8192,
        eos_token_id=None,
    )
    model_id = request.function.__name__
    folder = cluster.add(".unfinished", like="text_generation", deployment={"num_replicas": 1})
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder, eos_token=None, model_max_length=8192).save_pretrained(folder)
    folder.rename(cluster.models / model_id)
    cluster.wait_for_state(model_id, "ready", 90)
    yield model_id
    cluster.remove(model_id)


def counters(cluster: Cluster, model_id: str) -> dict[str, int]:
    return dict(cluster.http.get(f"/models/{model_id}/counters").json())


def in_flight(cluster: Cluster, model_id: str) -> int:
    return {model["id"]: int(model["in_flight"]) for model in cluster.http.get("/status").json()}[model_id]


def is_idle(cluster: Cluster, model_id: str) -> bool:
    totals = counters(cluster, model_id)
    return totals["running"] == totals["waiting"] == 0


def test_closed_stream_stops_generation(cluster: Cluster, ai: openai.OpenAI, endless: str) -> None:
    stream = ai.completions.create(
        model=endless, prompt=PROMPT, max_tokens=4000, temperature=1.0, stream=True
    )
    for _ in range(5):
        next(stream)
    stream.close()
    wait_for(lambda: is_idle(cluster, endless), 20, "no sequence left")
    generated = counters(cluster, endless)["generated_tokens"]
    time.sleep(1)
    assert counters(cluster, endless)["generated_tokens"] == generated < 2000


def test_disconnect_before_the_response_stops_generation(cluster: Cluster, endless: str) -> None:
    """The body follows its headers in another packet, as from most clients."""
    body = json.dumps({"inputs": PROMPT, "parameters": {"max_new_tokens": 4000}})
    connections = [http.client.HTTPConnection(cluster.url.removeprefix("http://")) for _ in range(8)]
    for connection in connections:
        connection.request("POST", f"/models/{endless}", body)
    wait_for(lambda: counters(cluster, endless)["running"] == len(connections), 30, "a sequence for each")
    for connection in connections:
        connection.close()
    wait_for(lambda: is_idle(cluster, endless), 20, "no sequence left")
    assert counters(cluster, endless)["generated_tokens"] < len(connections) * 4000


def test_slow_reader_does_not_delay_other_clients(cluster: Cluster, ai: openai.OpenAI, endless: str) -> None:
    slow = ai.completions.create(model=endless, prompt=PROMPT, max_tokens=4000, temperature=1.0, stream=True)
    next(slow)
    start = time.monotonic()
    ai.completions.create(model=endless, prompt=PROMPT, max_tokens=5)
    assert time.monotonic() - start < 10
    slow.close()
    wait_for(lambda: is_idle(cluster, endless), 20, "no sequence left")


async def test_saturated_model_does_not_delay_other_models(cluster: Cluster, endless: str) -> None:
    """Its requests wait in the replica and at the Router; requests to another model overtake them."""
    long = {"inputs": PROMPT, "parameters": {"max_new_tokens": 4000}}
    limits = httpx.Limits(max_connections=400)
    async with httpx.AsyncClient(base_url=cluster.url, limits=limits, timeout=60, trust_env=False) as client:
        pending = [asyncio.ensure_future(client.post(f"/models/{endless}", json=long)) for _ in range(200)]
        await asyncio.to_thread(
            wait_for, lambda: in_flight(cluster, endless) == 200, 20, "200 requests in flight"
        )
        others = (client.post("/models/sentiment", json={"inputs": POSITIVE}) for _ in range(200))
        assert {response.status_code for response in await asyncio.gather(*others)} == {httpx.codes.OK}
        assert not any(task.done() for task in pending)
        for task in pending:
            task.cancel()
    wait_for(lambda: in_flight(cluster, endless) == 0, 20, "no request in flight")
    wait_for(lambda: is_idle(cluster, endless), 20, "no sequence left")


async def test_many_dropped_streams_leave_the_cluster_healthy(cluster: Cluster, endless: str) -> None:
    count = 200 if cluster.mode == "slow" else 1000  # Serve's proxy in Python takes minutes for a thousand
    request = {"model": endless, "prompt": PROMPT, "max_tokens": 4000, "temperature": 1.0, "stream": True}
    limits = httpx.Limits(max_connections=1000)
    statuses: list[int] = []
    internal_errors: list[str] = []

    async def open_and_drop(client: httpx.AsyncClient) -> None:
        async with client.stream("POST", "/v1/completions", json=request) as response:
            statuses.append(response.status_code)
            if response.status_code not in (200, 429, 504):
                internal_errors.append((await response.aread()).decode())
            async for _ in response.aiter_lines():
                return

    async with httpx.AsyncClient(base_url=cluster.url, limits=limits, timeout=120, trust_env=False) as client:
        await asyncio.gather(*(open_and_drop(client) for _ in range(count)), return_exceptions=True)
    assert len(statuses) == count and not internal_errors
    assert statuses.count(200) > count / 2
    wait_for(lambda: is_idle(cluster, endless), 20, "no sequence left")
    assert "Rome" in cluster.http.post("/models/conversational", json={"inputs": QUESTION}).text
    wait_for(lambda: in_flight(cluster, endless) == 0, 10, "no request in flight")


def test_replica_death_during_a_stream_raises_an_api_error(
    cluster: Cluster, ai: openai.OpenAI, endless: str
) -> None:
    stream = ai.completions.create(
        model=endless, prompt=PROMPT, max_tokens=4000, temperature=1.0, stream=True
    )
    next(stream)
    for pid in cluster.pids(f"{endless}:model"):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(openai.APIError, match="restarting"):
        list(stream)
    cluster.wait_for_state(endless, "ready", 60)


ERRORS: list[tuple[str, str, dict[str, Any], int, Callable[[Any], str]]] = [
    ("huggingface", "/models/missing", {"inputs": "x"}, 404, lambda body: body["error"]),
    (
        "openai",
        "/v1/embeddings",
        {"model": "missing", "input": "x"},
        404,
        lambda body: body["error"]["message"],
    ),
    ("open inference", "/v2/models/missing/infer", {"inputs": []}, 404, lambda body: body["error"]),
    ("tei", "/models/missing/embed", {"inputs": "x"}, 404, lambda body: body["error"]),
    (
        "caikit",
        "/api/v1/task/embeddings",
        {"inputs": "x", "model_id": "missing"},
        404,
        lambda body: body["details"],
    ),
]


@pytest.mark.parametrize(
    ("dialect", "path", "body", "status", "message_of"), ERRORS, ids=[case[0] for case in ERRORS]
)
def test_unknown_model_is_the_same_error_in_every_dialect(
    cluster: Cluster,
    dialect: str,
    path: str,
    body: dict[str, Any],
    status: int,
    message_of: Callable[[Any], str],
) -> None:
    response = cluster.http.post(path, json=body)
    assert response.status_code == status, response.text
    assert "'missing'" in message_of(response.json())
