"""The nine starter models through the three doors, with inputs that no training has seen."""

import base64
import gzip
import io
import math
import re
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from huggingface_hub import InferenceClient
from PIL import Image, ImageDraw

from tests.end_to_end.cluster import Cluster, in_modes

pytestmark = [pytest.mark.cluster, in_modes("fast", "slow", "handle")]

POSITIVE = "The staff were wonderful and the cake was delicious."
NEGATIVE = "A dreadful phone: it broke after two days."
NEWS = (
    "A fire broke out at a school in Lisbon on Tuesday. Firefighters needed six hours to put it out. "
    "No one was hurt. Some residents elapsed photos with their phones."
)
PROMPT = "Once upon a time"
STORY = r",? (there|in|on|a|an|[A-Z])\w* ?\w+"  # it is drawn: no two need be alike
QUESTION = "What is the capital of Italy?"
QUERY, SIMILAR, DISSIMILAR = (
    "A man is playing the guitar.",
    "A guy plays the violin.",
    "I want a refund for my order.",
)


def example_image(width: int = 220, height: int = 160) -> bytes:
    """Return a blue square on the left of a light background."""
    image = Image.new("RGB", (width, height), (235, 235, 225))
    ImageDraw.Draw(image).rectangle((50, 50, 115, 115), fill=(30, 60, 200))
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()


def covers_the_square(mask: str) -> bool:
    image = Image.open(io.BytesIO(base64.b64decode(mask)))
    pixels = np.asarray(image) > 0
    assert image.size == (220, 160)
    return bool(pixels[60:105, 60:105].mean() > 0.7 and pixels[:, 140:].mean() < 0.1)


def is_the_square(box: dict[str, int]) -> bool:
    return all(
        abs(box[side] - true) < 20
        for side, true in zip(("xmin", "ymin", "xmax", "ymax"), (50, 50, 115, 115), strict=True)
    )


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


# Hugging Face, by its own client


@pytest.fixture
def hub(cluster: Cluster) -> Callable[[str], InferenceClient]:
    return lambda model_id: InferenceClient(f"{cluster.url}/models/{model_id}", provider="hf-inference")


def test_hub_text(hub: Callable[[str], InferenceClient]) -> None:
    assert hub("sentiment").text_classification(POSITIVE)[0].label == "POSITIVE"
    assert [label.label for label in hub("sentiment").text_classification(NEGATIVE, top_k=1)] == ["NEGATIVE"]
    summary = hub("summarization").summarization(NEWS).summary_text
    assert "fire" in summary.lower() and "Lisbon" in summary
    assert "Rome" in hub("conversational").text_generation(QUESTION)


def test_hub_generates_and_streams_the_same(hub: Callable[[str], InferenceClient]) -> None:
    client = hub("text_generation")
    story = client.text_generation(PROMPT, max_new_tokens=40, seed=7, details=True)
    assert re.match(STORY, story.generated_text)
    assert story.details.generated_tokens == len(story.details.tokens) <= 40
    chunks = list(client.text_generation(PROMPT, max_new_tokens=40, seed=7, stream=True, details=True))
    assert "".join(chunk.token.text for chunk in chunks if not chunk.token.special) == story.generated_text
    assert chunks[-1].generated_text == story.generated_text
    assert chunks[-1].details.finish_reason == story.details.finish_reason


def test_hub_vectors(hub: Callable[[str], InferenceClient]) -> None:
    query, similar, dissimilar = (
        hub("embeddings").feature_extraction(text)[0].tolist() for text in (QUERY, SIMILAR, DISSIMILAR)
    )
    assert cosine(query, similar) > cosine(query, dissimilar) + 0.2
    similarities = hub("sentence_similarity").sentence_similarity(
        QUERY, other_sentences=[DISSIMILAR, SIMILAR]
    )
    assert similarities[1] > similarities[0] + 0.2


def test_hub_image_tasks(hub: Callable[[str], InferenceClient]) -> None:
    assert hub("image_classification").image_classification(example_image())[0].label == "square"
    assert len(hub("image_classification").image_classification(example_image(), top_k=2)) == 2
    (found,) = hub("object_detection").object_detection(example_image(), threshold=0.5)
    assert found.label == "square" and is_the_square(vars(found.box))
    squares = [
        s for s in hub("image_segmentation").image_segmentation(example_image()) if s.label == "square"
    ]
    encoded = io.BytesIO()
    squares[0].mask.save(encoded, "PNG")
    assert covers_the_square(base64.b64encode(encoded.getvalue()).decode())


def test_hub_health_and_info(hub: Callable[[str], InferenceClient], cluster: Cluster) -> None:
    assert hub("sentiment").health_check()
    assert hub("sentiment").get_endpoint_info()["served_model_name"] == "sentiment"
    assert {card["id"] for card in cluster.http.get("/models").json()} >= {
        path.name for path in cluster.models.iterdir()
    }


# Caikit over gRPC and over HTTP: the same answers, in the same words

CAIKIT = [
    ("sentiment", "Sentiment", "text_in", NEGATIVE),
    ("summarization", "Summarization", "text_in", NEWS),
    ("text_generation", "TextGeneration", "text_in", PROMPT),
    ("conversational", "Conversational", "text_in", QUESTION),
    ("embeddings", "Embeddings", "text_in", QUERY),
    ("sentence_similarity", "SentenceSimilarity", "sentences", [QUERY, SIMILAR, DISSIMILAR]),
    (
        "image_classification",
        "ImageClassification",
        "encoded_bytes_or_url",
        base64.b64encode(example_image()).decode(),
    ),
    (
        "object_detection",
        "ObjectDetection",
        "encoded_bytes_or_url",
        base64.b64encode(example_image()).decode(),
    ),
    (
        "image_segmentation",
        "ImageSegmentation",
        "encoded_bytes_or_url",
        base64.b64encode(example_image()).decode(),
    ),
]


class Caikit:
    """What the old demo's client does: messages found by reflection, the model named in the metadata."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        self.service = self.pool.FindServiceByName("caikit.runtime.Runtime.RuntimeService")

    def call(self, title: str, fields: dict[str, Any], *metadata: tuple[str, str]) -> dict[str, Any]:
        method = self.service.methods_by_name[f"{title}TaskPredict"]
        request, answer = (
            message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type)
        )
        rpc = self.channel.unary_unary(
            f"/{self.service.full_name}/{method.name}",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        message = rpc(request(**fields), metadata=metadata, timeout=30)
        return dict(
            json_format.MessageToDict(
                message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
        )


def check(model_id: str, answer: dict[str, Any]) -> None:
    """Whether a Caikit answer, from either transport, is right."""
    if "classes" in answer:
        best = max(answer["classes"], key=lambda one: one["confidence"])
        assert best["class_name"] == {"sentiment": "NEGATIVE", "image_classification": "square"}[model_id]
    elif "text" in answer:
        said = {"summarization": "Lisbon", "text_generation": PROMPT + STORY, "conversational": "Rome"}
        assert re.search(said[model_id], answer["text"])
    elif model_id == "sentence_similarity":
        vectors = [pair["output"] for pair in answer["output"]]
        assert [int(pair["input"]) for pair in answer["output"]] == [0, 1, 2]
        assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2]) + 0.2
    elif model_id == "embeddings":
        assert len(answer["output"]) > 5, "one vector per token"
    elif model_id == "object_detection":
        (found,) = answer["objects"]
        assert found["label"] == "square" and is_the_square(
            {side: int(at) for side, at in found["box"].items()}
        )
    else:
        assert any(one["label"] == "square" and covers_the_square(one["mask"]) for one in answer["objects"])


@pytest.mark.parametrize(("model_id", "title", "field", "value"), CAIKIT, ids=[case[0] for case in CAIKIT])
def test_caikit(cluster: Cluster, model_id: str, title: str, field: str, value: Any) -> None:
    check(model_id, Caikit(cluster.channel).call(title, {field: value}, ("mm-model-id", model_id)))
    answer = cluster.http.post(
        f"/api/v1/task/{model_id.replace('_', '-')}",
        json={"inputs": value, "model_id": model_id, "parameters": {}},
    )
    assert answer.status_code == httpx.codes.OK, answer.text
    check(model_id, answer.json())


def test_sentiment_over_caikit_keeps_the_order_of_the_label_ids(cluster: Cluster) -> None:
    for text in (POSITIVE, NEGATIVE):
        answer = Caikit(cluster.channel).call("Sentiment", {"text_in": text}, ("mm-model-id", "sentiment"))
        assert [one["class_name"] for one in answer["classes"]] == ["NEGATIVE", "POSITIVE"]


def test_page_of_an_allowed_origin_may_send_a_compressed_request(cluster: Cluster) -> None:
    page = {"origin": "http://localhost:3000"}
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "content-encoding"}
    preflight = cluster.http.options("/models/sentiment", headers={**page, **asks})
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, page["origin"])
    body = gzip.compress(orjson.dumps({"inputs": POSITIVE}))
    headers = {**page, "content-type": "application/json", "content-encoding": "gzip"}
    response = cluster.http.post("/models/sentiment", content=body, headers=headers)
    assert response.json()[0][0]["label"] == "POSITIVE"
    assert response.headers["access-control-allow-origin"] == page["origin"]
    elsewhere = cluster.http.options(
        "/models/sentiment", headers={**page, **asks, "origin": "http://evil.example"}
    )
    assert elsewhere.status_code == 400


def test_truncated_text_is_reported_in_header_and_metadata(cluster: Cluster) -> None:
    long = "The staff were wonderful. " * 500
    for text, is_long in ((POSITIVE, False), (long, True)):
        http = cluster.http.post("/models/sentiment", json={"inputs": text})
        client = Caikit(cluster.channel)
        method = client.service.methods_by_name["SentimentTaskPredict"]
        request, _ = (
            message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type)
        )
        rpc = cluster.channel.unary_unary(f"/{client.service.full_name}/{method.name}")
        message = request(text_in=text).SerializeToString()
        _, call = rpc.with_call(message, metadata=[("mm-model-id", "sentiment")], timeout=30)
        for found in (http.headers, dict(call.trailing_metadata())):
            read, _, given = found.get("x-roster-truncated", "").partition("/")
            assert (bool(given) and int(read) < int(given)) == is_long


def test_reflection_lists_the_service_of_the_tasks_first(cluster: Cluster) -> None:
    """Clients of the old demo take the first service."""
    services = ProtoReflectionDescriptorDatabase(cluster.channel).get_services()
    assert services[0] == "caikit.runtime.Runtime.RuntimeService"
