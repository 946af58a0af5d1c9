"""One model, every dialect: the clients that people have, against a real door."""

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

from tests.end_to_end.conftest import ROOT, Cluster, in_lanes, wait_for
from tests.end_to_end.test_requests import (
    ALIKE,
    ASKED,
    BAD,
    GOOD,
    NEWS,
    PROMPT,
    QUESTION,
    UNLIKE,
    Caikit,
    picture,
)
from tests.wire.open_inference.triton_stubs import triton

triton_grpc, _ = triton()

pytestmark = [
    pytest.mark.cluster,
    in_lanes("fast", "slow"),
    pytest.mark.filterwarnings("ignore"),  # the clients' own
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
    asked = {"model": "conversational", "messages": [{"role": "user", "content": QUESTION}]}
    whole = ai.chat.completions.create(**asked)
    assert "Rome" in whole.choices[0].message.content
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 4
    chunks = list(ai.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == (
        whole.choices[0].message.content
    )
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    written = ai.responses.create(model="conversational", input=QUESTION)
    assert "Rome" in written.output_text


def test_openai_completions(ai: openai.OpenAI) -> None:
    asked = {"model": "text_generation", "prompt": PROMPT, "seed": 5, "max_tokens": 12, "temperature": 0.8}
    whole = ai.completions.create(**asked, logprobs=2)
    assert whole.usage.completion_tokens == len(whole.choices[0].logprobs.tokens) <= 12
    streamed = ai.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == whole.choices[0].text
    several = ai.completions.create(**asked, n=3)
    assert len({choice.text for choice in several.choices}) > 1
    assert several.choices[0].text == whole.choices[0].text
    stopped = ai.completions.create(**{**asked, "max_tokens": 60}, stop=["."])
    assert "." not in stopped.choices[0].text


async def test_openai_async(cluster: Cluster) -> None:
    async with openai.AsyncOpenAI(base_url=f"{cluster.url}/models/conversational/v1", api_key="a") as client:
        asked = {"model": "any", "messages": [{"role": "user", "content": QUESTION}]}
        wholes = await asyncio.gather(*(client.chat.completions.create(**asked) for _ in range(8)))
        assert {"Rome" in whole.choices[0].message.content for whole in wholes} == {True}


def test_openai_errors_are_typed(ai: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        ai.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "x"}])
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError):
        ai.chat.completions.create(model="sentiment", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.BadRequestError) as hot:
        ai.chat.completions.create(model="conversational", messages=[], temperature=0.5)
    assert hot.value.type == "invalid_request_error"


def test_langchain(cluster: Cluster) -> None:
    facts = {"base_url": f"{cluster.url}/v1", "api_key": "any", "max_retries": 0}
    chat = ChatOpenAI(model="conversational", **facts)
    assert "Rome" in chat.invoke(QUESTION).content
    assert "Rome" in "".join(chunk.content for chunk in chat.stream(QUESTION))
    embedder = OpenAIEmbeddings(model="embeddings", check_embedding_ctx_length=False, **facts)
    alike, unlike = embedder.embed_documents([ASKED, UNLIKE])
    assert len(alike) == len(unlike) == 72


def test_llama_index(cluster: Cluster) -> None:
    url, facts = f"{cluster.url}/models/embeddings", {"text_instruction": " ", "query_instruction": " "}
    client = TextEmbeddingsInference(model_name="embeddings", base_url=url, auth_token="none", **facts)
    (vector,) = cluster.http.post("/models/embeddings/embed", json={"inputs": ASKED}).json()
    assert np.allclose(client.get_text_embedding(ASKED), vector, atol=1e-6)
    assert len(client.get_text_embedding_batch([ASKED, UNLIKE, QUESTION])) == 3
    similar = cluster.http.post(
        "/models/sentence_similarity/rerank",
        json={"query": ASKED, "texts": [UNLIKE, ALIKE], "return_text": True},
    ).json()
    assert [one["text"] for one in similar] == [ALIKE, UNLIKE]


def test_hub_chat(cluster: Cluster) -> None:
    client = InferenceClient(f"{cluster.url}/models/conversational", provider="hf-inference")
    messages = [{"role": "user", "content": QUESTION}]
    assert "Rome" in client.chat_completion(messages).choices[0].message.content
    chunks = client.chat_completion(messages, stream=True)
    assert "Rome" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def tensors(kind: Any, name: str, values: list[bytes]) -> Any:
    tensor = kind.InferInput(name, [len(values)], "BYTES")
    tensor.set_data_from_numpy(np.array(values, dtype=object))
    return tensor


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_triton_clients(cluster: Cluster, door: str, request: pytest.FixtureRequest) -> None:
    client = request.getfixturevalue(f"over_{door}")
    kind = {"http": triton_http, "grpc": triton_grpc}[door]
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("sentiment")
    assert not client.is_model_ready("nobody")
    wanted = [kind.InferRequestedOutput("labels"), kind.InferRequestedOutput("scores")]
    told = client.infer("sentiment", [tensors(kind, "text", [GOOD.encode(), BAD.encode()])], outputs=wanted)
    assert [row[0].decode() for row in told.as_numpy("labels")] == ["POSITIVE", "NEGATIVE"]
    assert told.as_numpy("scores").dtype == np.float32
    (found,) = client.infer("image_classification", [tensors(kind, "image", [picture()])]).as_numpy("output")
    assert b"square" in found[0]
    assert (
        b"Lisbon"
        in client.infer("summarization", [tensors(kind, "args", [NEWS.encode()])]).as_numpy("output")[0][0]
    )
    client.get_model_metadata("sentiment")
    client.get_inference_statistics("sentiment")
    names = client.get_model_repository_index()
    assert len(names.models if door == "grpc" else names) >= 9


def test_triton_streams(cluster: Cluster, over_grpc: Any, ai: openai.OpenAI) -> None:
    came: queue.Queue[tuple[Any, Any]] = queue.Queue()
    over_grpc.start_stream(lambda result, error: came.put((result, error)))
    inputs = [tensors(triton_grpc, "text", [PROMPT.encode()])]
    asked = {"max_new_tokens": 12, "seed": 5, "temperature": 0.8, "do_sample": True}
    over_grpc.async_stream_infer("text_generation", inputs, request_id="written", parameters=asked)
    inputs = [tensors(triton_grpc, "text", [GOOD.encode()])]
    over_grpc.async_stream_infer("sentiment", inputs, request_id="judged")
    told: dict[str, list[Any]] = {"written": [], "judged": []}
    last = False
    while not (last and told["judged"]):
        result, error = came.get(timeout=20)
        assert error is None
        response = result.get_response()
        told[response.id].append(result)
        final = response.parameters["triton_final_response"].bool_param
        last = last or (final and response.id == "written")
    over_grpc.stop_stream()
    text = "".join(one.as_numpy("generated_text")[0][0].decode() for one in told["written"])
    assert 1 < len(told["written"]) <= 12
    whole = ai.completions.create(
        model="text_generation", prompt=PROMPT, seed=5, max_tokens=12, temperature=0.8
    )
    assert text == whole.choices[0].text


def judged(cluster: Cluster, text: str) -> Any:
    answer = cluster.http.post("/models/sentiment", json={"inputs": text})
    return answer.status_code == httpx.codes.OK and answer.json()


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_models_are_unloaded_where_the_operator_allows_it(
    cluster: Cluster, door: str, request: pytest.FixtureRequest
) -> None:
    client = request.getfixturevalue(f"over_{door}")
    if cluster.lane == "fast":
        with pytest.raises(Exception, match="operator"):
            client.unload_model("sentiment")
        return
    client.unload_model("sentiment")
    # It returns when one Router knows; another may answer next.
    wait_for(lambda: not client.is_model_ready("sentiment"), 20, "not ready")
    wait_for(lambda: "UNLOADED" in cluster.card("sentiment")["reason"], 20, "the reason")
    wait_for(lambda: not cluster.pids("sentiment:model"), 20, "its processes' end")
    client.load_model("sentiment")
    wait_for(lambda: client.is_model_ready("sentiment"), 20, "ready again")
    answer = wait_for(lambda: judged(cluster, GOOD), 20, "an answer")
    assert answer[0][0]["label"] == "POSITIVE"


def test_the_default_model_answers_at_the_root(cluster: Cluster) -> None:
    (vector,) = cluster.http.post("/embed", json={"inputs": ASKED}).json()
    assert [vector] == cluster.http.post("/models/embeddings/embed", json={"inputs": ASKED}).json()
    assert cluster.http.get("/info").json()["served_model_name"] == "embeddings"


def test_every_dialect_gives_the_same_vector(
    cluster: Cluster, ai: openai.OpenAI, over_http: Any, over_grpc: Any
) -> None:
    hub = InferenceClient(f"{cluster.url}/models/embeddings", provider="hf-inference")
    post = cluster.http.post
    vectors = {
        "huggingface": hub.feature_extraction(ASKED)[0],
        "openai base64": ai.embeddings.create(model="embeddings", input=ASKED).data[0].embedding,
        "openai float": ai.embeddings.create(model="embeddings", input=ASKED, encoding_format="float")
        .data[0]
        .embedding,
        "tei": post("/models/embeddings/embed", json={"inputs": ASKED}).json()[0],
        "tei, tokens": post(
            "/models/embeddings/embed",
            json={
                "inputs": [
                    [
                        one["id"]
                        for one in post("/models/embeddings/tokenize", json={"inputs": ASKED}).json()[0]
                        if not one["special"]
                    ]
                ]
            },
        ).json()[0],
    }
    for name, client, kind in (("http", over_http, triton_http), ("grpc", over_grpc, triton_grpc)):
        told = client.infer(
            "embeddings",
            [tensors(kind, "text", [ASKED.encode()])],
            outputs=[kind.InferRequestedOutput("embedding")],
        )
        vectors[f"open inference, {name}"] = told.as_numpy("embedding")[0]
    for name, vector in vectors.items():
        assert np.allclose(vector, vectors["huggingface"], atol=1e-6), name


def test_every_dialect_gives_the_same_scores(
    cluster: Cluster, ai: openai.OpenAI, over_http: Any, over_grpc: Any
) -> None:
    hub = InferenceClient(f"{cluster.url}/models/sentiment", provider="hf-inference")
    told = over_http.infer(
        "sentiment",
        [tensors(triton_http, "text", [BAD.encode()])],
        outputs=[triton_http.InferRequestedOutput("labels"), triton_http.InferRequestedOutput("scores")],
    )
    caikit = Caikit(cluster.channel).call("Sentiment", {"text_in": BAD}, ("mm-model-id", "sentiment"))
    scores = [
        {one.label: one.score for one in hub.text_classification(BAD)},
        {one["class_name"]: one["confidence"] for one in caikit["classes"]},
        ai.moderations.create(model="sentiment", input=BAD).results[0].category_scores.model_extra,
        {
            one["label"]: one["score"]
            for one in cluster.http.post("/models/sentiment/predict", json={"inputs": BAD}).json()
        },
        dict(
            zip(
                (label.decode() for label in told.as_numpy("labels")[0]),
                told.as_numpy("scores")[0].tolist(),
                strict=True,
            )
        ),
    ]
    for one in scores:
        assert one["NEGATIVE"] == pytest.approx(scores[0]["NEGATIVE"], abs=1e-6)


@pytest.fixture
def endless(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Answers that go on: weights by chance, room for thousands of tokens, and no token that ends one.

    Each test's has an id of its own, so none takes over the replicas of the one before.
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
    return {one["id"]: int(one["in_flight"]) for one in cluster.http.get("/status").json()}[model_id]


def is_idle(cluster: Cluster, model_id: str) -> bool:
    told = counters(cluster, model_id)
    return told["running"] == told["waiting"] == 0


def test_who_leaves_stops_the_work(cluster: Cluster, ai: openai.OpenAI, endless: str) -> None:
    stream = ai.completions.create(
        model=endless, prompt=PROMPT, max_tokens=4000, temperature=1.0, stream=True
    )
    for _ in range(5):
        next(stream)
    stream.close()
    wait_for(lambda: is_idle(cluster, endless), 20, "no row left")
    made = counters(cluster, endless)["generated_tokens"]
    time.sleep(1)
    assert counters(cluster, endless)["generated_tokens"] == made < 2000


def test_who_leaves_before_the_answer_stops_the_work(cluster: Cluster, endless: str) -> None:
    """With a body that comes after its headers, as from most clients."""
    body = json.dumps({"inputs": PROMPT, "parameters": {"max_new_tokens": 4000}})
    callers = [http.client.HTTPConnection(cluster.url.removeprefix("http://")) for _ in range(8)]
    for caller in callers:
        caller.request("POST", f"/models/{endless}", body)
    wait_for(lambda: counters(cluster, endless)["running"] == len(callers), 30, "a row for each")
    for caller in callers:
        caller.close()
    wait_for(lambda: is_idle(cluster, endless), 20, "no row left")
    assert counters(cluster, endless)["generated_tokens"] < len(callers) * 4000


def test_a_slow_reader_delays_nobody(cluster: Cluster, ai: openai.OpenAI, endless: str) -> None:
    slow = ai.completions.create(model=endless, prompt=PROMPT, max_tokens=4000, temperature=1.0, stream=True)
    next(slow)
    start = time.monotonic()
    ai.completions.create(model=endless, prompt=PROMPT, max_tokens=5)
    assert time.monotonic() - start < 10
    slow.close()
    wait_for(lambda: is_idle(cluster, endless), 20, "no row left")


async def test_a_model_that_is_full_holds_up_no_other(cluster: Cluster, endless: str) -> None:
    """Its callers are in the replica and in line before it; another model's overtake them."""
    long = {"inputs": PROMPT, "parameters": {"max_new_tokens": 4000}}
    limits = httpx.Limits(max_connections=400)
    async with httpx.AsyncClient(base_url=cluster.url, limits=limits, timeout=60, trust_env=False) as client:
        full = [asyncio.ensure_future(client.post(f"/models/{endless}", json=long)) for _ in range(200)]
        await asyncio.to_thread(wait_for, lambda: in_flight(cluster, endless) == 200, 20, "all of its calls")
        others = (client.post("/models/sentiment", json={"inputs": GOOD}) for _ in range(200))
        assert {one.status_code for one in await asyncio.gather(*others)} == {httpx.codes.OK}
        assert not any(one.done() for one in full)
        for one in full:
            one.cancel()
    wait_for(lambda: in_flight(cluster, endless) == 0, 20, "none of its calls")
    wait_for(lambda: is_idle(cluster, endless), 20, "no row left")


async def test_a_thousand_streams_come_and_go(cluster: Cluster, endless: str) -> None:
    asked = {"model": endless, "prompt": PROMPT, "max_tokens": 4000, "temperature": 1.0, "stream": True}
    limits = httpx.Limits(max_connections=1000)
    seen: list[int] = []

    async def open_and_drop(client: httpx.AsyncClient) -> None:
        async with client.stream("POST", "/v1/completions", json=asked) as response:
            seen.append(response.status_code)
            async for _ in response.aiter_lines():
                return

    async with httpx.AsyncClient(base_url=cluster.url, limits=limits, timeout=120, trust_env=False) as client:
        await asyncio.gather(*(open_and_drop(client) for _ in range(1000)), return_exceptions=True)
    assert len(seen) == 1000 and {*seen} <= {200, 429, 504}, "and never an error of ours"
    assert seen.count(200) > 500
    wait_for(lambda: is_idle(cluster, endless), 20, "no row left")
    assert "Rome" in cluster.http.post("/models/conversational", json={"inputs": QUESTION}).text
    wait_for(lambda: in_flight(cluster, endless) == 0, 10, "no request in flight")


def test_a_replica_that_dies_in_mid_stream_is_told(cluster: Cluster, ai: openai.OpenAI, endless: str) -> None:
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
    ("huggingface", "/models/nobody", {"inputs": "x"}, 404, lambda told: told["error"]),
    (
        "openai",
        "/v1/embeddings",
        {"model": "nobody", "input": "x"},
        404,
        lambda told: told["error"]["message"],
    ),
    ("open inference", "/v2/models/nobody/infer", {"inputs": []}, 404, lambda told: told["error"]),
    ("tei", "/models/nobody/embed", {"inputs": "x"}, 404, lambda told: told["error"]),
    (
        "caikit",
        "/api/v1/task/embeddings",
        {"inputs": "x", "model_id": "nobody"},
        404,
        lambda told: told["details"],
    ),
]


@pytest.mark.parametrize(
    ("dialect", "path", "body", "status", "read"), ERRORS, ids=[one[0] for one in ERRORS]
)
def test_the_same_error_in_every_dialect(
    cluster: Cluster, dialect: str, path: str, body: dict[str, Any], status: int, read: Callable[[Any], str]
) -> None:
    answer = cluster.http.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert "'nobody'" in read(answer.json())
