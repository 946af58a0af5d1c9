"""The Hub's own client: every task, and the exceptions it raises."""

import asyncio
import base64
import time
from typing import Any

import httpx
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import (
    GenerationError,
    HfHubHTTPError,
    IncompleteGenerationError,
    OverloadedError,
)
from huggingface_hub.errors import ValidationError as HubValidationError

from deployments.errors import InvalidInput, Overloaded, TimedOut, TooLarge
from deployments.schema import Label
from deployments.task import TASKS
from tests.fake_router import IMAGE, FakeRouter, sample


@pytest.fixture
def client(url: str, router: FakeRouter) -> Any:
    """Return a function that returns the Hub's client for a model."""
    return lambda model_id: InferenceClient(model=f"{url}/models/{model_id}", token="none")


def test_client_text_classification(client, router) -> None:
    router.outputs["sentiment"] = lambda _: TASKS["sentiment"].output(
        labels=[Label(label="POSITIVE", score=0.9), Label(label="NEGATIVE", score=0.1)]
    )
    for params in ({}, {"top_k": 2, "function_to_apply": "softmax"}):
        labels = client("sentiment").text_classification("I loved it.", **params)
        assert [(label.label, label.score) for label in labels] == [("POSITIVE", 0.9), ("NEGATIVE", 0.1)]
    assert [params.top_k for _, _, params in router.received] == [None, 2]


def test_client_summarization(client, router) -> None:
    for params in (
        {},
        {"clean_up_tokenization_spaces": True},
        {"generate_parameters": {"max_new_tokens": 5}},
    ):
        assert client("summarization").summarization("A long text.", **params).summary_text == "word"


def test_client_text_generation(client, router) -> None:
    generate = client("text-generation").text_generation
    assert generate("Once") == "word"
    assert generate("Once", max_new_tokens=5, do_sample=True, temperature=0.7, stop=["."], seed=1) == "word"
    output = generate("Once", details=True, max_new_tokens=5)
    assert output.generated_text == "word"
    assert output.details.finish_reason
    assert output.details.tokens[0].text == "word"
    assert output.details.top_tokens[0][0]["text"] == "word", "the client does not parse these"
    assert router.received[-1].params.details
    assert router.received[1].params.stop == ["."]


def test_client_text_generation_with_every_parameter(client, router) -> None:
    params = {
        "do_sample": True,
        "frequency_penalty": 0.5,
        "max_new_tokens": 5,
        "repetition_penalty": 1.1,
        "seed": 1,
        "stop": ["."],
        "temperature": 0.7,
        "top_k": 5,
        "top_p": 0.9,
        "truncate": 100,
        "typical_p": 0.9,
    }
    without_effect = {
        "adapter_id": None,
        "best_of": 1,
        "decoder_input_details": False,
        "grammar": None,
        "return_full_text": False,
        "watermark": False,
    }
    for model_id in ("text-generation", "conversational"):
        assert client(model_id).text_generation("Once", **params, **without_effect) == "word"
        received = router.received[-1].params
        assert {name: getattr(received, name) for name in params} == params


@pytest.mark.parametrize(
    "unsupported",
    [
        {"adapter_id": "some/adapter"},
        {"best_of": 2},
        {"decoder_input_details": True, "details": True},
        {"grammar": {"type": "regex", "value": "a+"}},
        {"watermark": True},
    ],
    ids=lambda params: next(iter(params)),
)
@pytest.mark.parametrize("stream", [False, True])
def test_client_raises_validation_error_for_unsupported_parameter(
    client, router, unsupported: Any, stream: bool
) -> None:
    """With another message ("`model_kwargs` are not used"), the client would retry without end."""
    with pytest.raises(HubValidationError, match=next(iter(unsupported))):
        client("text-generation").text_generation("Once", stream=stream, **unsupported)
    assert not router.received


def test_client_text_generation_streams(client, router) -> None:
    generate = client("text-generation").text_generation
    assert list(generate("Once", stream=True)) == ["word"]
    (chunk,) = generate("Once", stream=True, details=True, top_n_tokens=2)
    assert chunk.token.text == "word"
    assert chunk.top_tokens[0].text == "word"
    assert chunk.details.generated_tokens == 7
    assert chunk.details.finish_reason
    assert router.received[-1].params.top_n_tokens == 2


def test_client_feature_extraction(client, router) -> None:
    embed = client("embeddings").feature_extraction
    assert embed("One.").tolist() == [[0.5, 0.5]]
    assert embed(["One.", "Two."]).tolist() == [[0.5, 0.5]] * 2
    assert embed("One.", normalize=True, truncate=True, truncation_direction="left").tolist() == [[0.5, 0.5]]
    assert router.received[-1].params.truncation_direction == "left"
    params = {"normalize": False, "prompt_name": "query", "truncate": False, "dimensions": 2}
    assert embed("One.", encoding_format="float", **params).tolist() == [[0.5, 0.5]]
    assert {name: getattr(router.received[-1].params, name) for name in params} == params
    with pytest.raises(HfHubHTTPError, match="encoding_format"):
        embed("One.", encoding_format="base64")
    router.outputs["embeddings"] = lambda _: TASKS["embeddings"].output(
        tokens=[{"index": 0, "values": [1.0, 2.0]}, {"index": 1, "values": [3.0, 4.0]}]
    )
    assert embed("One.").tolist() == [[[1.0, 2.0], [3.0, 4.0]]]


def test_client_sentence_similarity(client, router) -> None:
    scores = client("sentence-similarity").sentence_similarity("One.", other_sentences=["Two.", "Three."])
    assert scores == [0.5, 0.5]


def test_client_image_classification(client, router) -> None:
    for params in ({}, {"top_k": 2}):
        assert client("image-classification").image_classification(IMAGE, **params)[0].label == "word"
    assert [inputs[0].image for _, inputs, _ in router.received] == [IMAGE, IMAGE]


def test_client_object_detection(client, router) -> None:
    for params in ({}, {"threshold": 0.3}):
        objects = client("object-detection").object_detection(IMAGE, **params)
        assert objects[0].box.xmin == 7
    assert router.received[-1].params.threshold == 0.3


def test_client_image_segmentation(client, router) -> None:
    for params in ({}, {"threshold": 0.3, "subtask": "semantic"}):
        segments = client("image-segmentation").image_segmentation(IMAGE, **params)
        assert segments[0].mask.size == (64, 64)


def test_client_sends_image_from_file(client, router, tmp_path) -> None:
    (tmp_path / "circle.png").write_bytes(IMAGE)
    path = str(tmp_path / "circle.png")
    assert client("image-classification").image_classification(path)[0].label == "word"


def test_client_raises_specific_errors(client, router) -> None:
    router.outputs["text-generation"] = lambda _: Overloaded("every queue is full")
    with pytest.raises(OverloadedError, match="every queue is full"):
        client("text-generation").text_generation("Once")
    with pytest.raises(HubValidationError, match="max_new_tokens"):
        client("text-generation").text_generation("Once", max_new_tokens=-1)
    with pytest.raises(HfHubHTTPError, match="currently loading"):
        client("loading").text_classification("hi")
    with pytest.raises(HfHubHTTPError, match="no model is named 'unknown'"):
        client("unknown").text_generation("hi")


ERRORS = [
    (InvalidInput("no"), HubValidationError, "no"),
    (TooLarge("too long"), HubValidationError, "too long"),
    (Overloaded("every queue is full"), OverloadedError, "every queue is full"),
    (TimedOut("no answer within 60 seconds"), IncompleteGenerationError, "no answer within 60"),
    (ValueError("secret"), GenerationError, "internal error, request id"),
]


@pytest.mark.parametrize(("error", "exception", "message"), ERRORS, ids=lambda value: type(value).__name__)
def test_client_raises_error_by_kind(client, router, error: Exception, exception: Any, message: str) -> None:
    def fail(_: Any) -> Any:
        raise error

    router.outputs["text-generation"] = fail
    with pytest.raises(exception, match=message):
        client("text-generation").text_generation("Once")


@pytest.mark.parametrize(("error", "exception", "message"), ERRORS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("chunks_before", [0, 1])
def test_client_raises_error_by_kind_from_stream(
    client, router, error: Exception, exception: Any, message: str, chunks_before: int
) -> None:
    async def chunks(_: Any) -> Any:
        for _index in range(chunks_before):
            yield sample(TASKS["text-generation"].chunk)
        raise error

    router.streams["text-generation"] = chunks
    generate = client("text-generation").text_generation
    with pytest.raises(exception, match=message):
        list(generate("Once", stream=True, details=True))


def test_client_raises_error_after_chunks_of_stream(client, router) -> None:
    async def chunks(_: Any) -> Any:
        yield sample(TASKS["text-generation"].chunk)
        raise Overloaded("every queue is full")

    router.streams["text-generation"] = chunks
    words = client("text-generation").text_generation("Once", stream=True)
    assert next(words) == "word"
    with pytest.raises(OverloadedError, match="every queue is full"):
        next(words)


def test_closed_connection_closes_stream(url, router) -> None:
    async def chunks(_: Any) -> Any:
        yield sample(TASKS["text-generation"].chunk)
        await asyncio.sleep(60)

    router.streams["text-generation"] = chunks
    body = {"inputs": "hi", "stream": True}
    with httpx.stream("POST", f"{url}/models/text-generation", json=body) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        assert not router.closed_streams
    deadline = time.monotonic() + 2
    while not router.closed_streams and time.monotonic() < deadline:
        time.sleep(0.01)
    assert router.closed_streams == ["text-generation"]


def test_client_health_and_info(url, router) -> None:
    for model_id, healthy in (("sentiment", True), ("broken", False)):
        client = InferenceClient(model=f"{url}/models/{model_id}", provider="hf-inference", token="none")
        assert client.health_check() is healthy
        assert client.get_endpoint_info()["served_model_name"] == model_id


def test_image_and_mask_are_base64(url, router) -> None:
    body = {"inputs": base64.b64encode(IMAGE).decode(), "parameters": {}}
    masks = httpx.post(f"{url}/models/image-segmentation", json=body).json()
    assert base64.b64decode(masks[0]["mask"]) == IMAGE
