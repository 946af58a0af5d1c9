"""Invalid input gets the right status in each dialect's form, at once, and affects no other request."""

import base64
import struct
import time
import zlib
from typing import Any

import grpc
import httpx
import pytest
from grpc import StatusCode

from tests.end_to_end.cluster import Cluster, in_modes
from tests.end_to_end.test_requests import POSITIVE, Caikit, example_image

pytestmark = [pytest.mark.cluster, in_modes("fast", "slow", "handle")]

HUGE_TEXT = "a" * 1_000_001
HUGE_BODY = b'{"inputs": "' + b"a" * (33 * 1024 * 1024) + b'"}'
MANY = ["good"] * 10_000
AT_ONCE_S = 10.0  # on a shared machine; a request that runs into the gateway's deadline takes 60


def bomb() -> bytes:
    """Return a PNG of 60,000 x 60,000 pixels that takes a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(7_501) * 60)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def truncated() -> bytes:
    return example_image()[:150]


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


JSON = {"content-type": "application/json"}

HUB: list[tuple[str, str, dict[str, Any], int]] = [
    ("unknown model", "nope", {"json": {"inputs": POSITIVE}}, 404),
    ("wrong task", "sentiment/pipeline/summarization", {"json": {"inputs": POSITIVE}}, 422),
    ("no such task", "sentiment/pipeline/nonsense", {"json": {"inputs": POSITIVE}}, 422),
    ("empty text", "sentiment", {"json": {"inputs": ""}}, 422),
    ("no inputs", "sentiment", {"json": {}}, 422),
    ("wrong type", "sentiment", {"json": {"inputs": 3}}, 422),
    ("unknown parameter", "sentiment", {"json": {"inputs": POSITIVE, "parameters": {"topk": 1}}}, 422),
    (
        "parameter out of range",
        "text_generation",
        {"json": {"inputs": POSITIVE, "parameters": {"top_p": 7}}},
        422,
    ),
    ("oversized text", "sentiment", {"json": {"inputs": HUGE_TEXT}}, 413),
    ("oversized body", "sentiment", {"content": HUGE_BODY, "headers": JSON}, 413),
    ("10,000 items", "sentiment", {"json": {"inputs": MANY}}, 413),
    ("malformed", "sentiment", {"content": b'{"inputs": ', "headers": JSON}, 422),
    ("invalid UTF-8", "sentiment", {"content": b'{"inputs": "\xff\xfe"}', "headers": JSON}, 422),
    ("wrong content type", "sentiment", {"content": b"good", "headers": {"content-type": "text/csv"}}, 415),
    ("not an image", "image_classification", {"content": b"not an image"}, 422),
    ("bad base64", "image_classification", {"json": {"inputs": "%%%"}}, 422),
    ("truncated image", "image_classification", {"content": truncated()}, 422),
    ("decompression bomb", "image_classification", {"content": bomb()}, 413),
    (
        "a URL of a forbidden host",
        "image_classification",
        {"json": {"inputs": "http://127.0.0.1:8265/"}},
        403,
    ),
    ("a path on the server", "image_classification", {"json": {"inputs": "/etc/hostname"}}, 422),
]


@pytest.mark.parametrize(("case", "path", "request_", "status"), HUB, ids=[case[0] for case in HUB])
def test_hugging_face(cluster: Cluster, case: str, path: str, request_: dict[str, Any], status: int) -> None:
    start = time.monotonic()
    answer = cluster.http.post(f"/models/{path}", **request_)
    elapsed = time.monotonic() - start
    assert answer.status_code == status, answer.text[:300]
    assert isinstance(answer.json()["error"], str)
    assert "Traceback" not in answer.text and "/deployments/" not in answer.text
    assert elapsed < AT_ONCE_S, f"{elapsed:.2f} s"
    assert cluster.http.post("/models/sentiment", json={"inputs": POSITIVE}).status_code == httpx.codes.OK


CAIKIT_HTTP: list[tuple[str, str, dict[str, Any], int]] = [
    ("unknown model", "sentiment", {"json": {"inputs": POSITIVE, "model_id": "nope"}}, 404),
    ("path as model", "sentiment", {"json": {"inputs": POSITIVE, "model_id": "../x"}}, 404),
    ("no model", "sentiment", {"json": {"inputs": POSITIVE}}, 400),
    ("model of another task", "sentiment", {"json": {"inputs": POSITIVE, "model_id": "summarization"}}, 400),
    ("empty text", "sentiment", {"json": {"inputs": "", "model_id": "sentiment"}}, 400),
    ("wrong type", "sentiment", {"json": {"inputs": 3, "model_id": "sentiment"}}, 422),
    ("unknown field", "sentiment", {"json": {"input": POSITIVE, "model_id": "sentiment"}}, 422),
    ("oversized text", "sentiment", {"json": {"inputs": HUGE_TEXT, "model_id": "sentiment"}}, 413),
    ("oversized body", "sentiment", {"content": HUGE_BODY, "headers": JSON}, 413),
    (
        "10,000 items",
        "sentence-similarity",
        {"json": {"inputs": MANY, "model_id": "sentence_similarity"}},
        413,
    ),
    ("malformed", "sentiment", {"content": b'{"inputs": ', "headers": JSON}, 422),
    ("invalid UTF-8", "sentiment", {"content": b'{"inputs": "\xff\xfe"}', "headers": JSON}, 422),
    ("wrong content type", "sentiment", {"content": b"good", "headers": {"content-type": "text/csv"}}, 415),
    (
        "not an image",
        "image-classification",
        {"json": {"inputs": text(b"hello"), "model_id": "image_classification"}},
        400,
    ),
    (
        "decompression bomb",
        "object-detection",
        {"json": {"inputs": text(bomb()), "model_id": "object_detection"}},
        413,
    ),
    (
        "a URL of a forbidden host",
        "object-detection",
        {"json": {"inputs": "http://127.0.0.1:8265/", "model_id": "object_detection"}},
        403,
    ),
]


@pytest.mark.parametrize(
    ("case", "task", "request_", "status"), CAIKIT_HTTP, ids=[case[0] for case in CAIKIT_HTTP]
)
def test_caikit_http(cluster: Cluster, case: str, task: str, request_: dict[str, Any], status: int) -> None:
    start = time.monotonic()
    answer = cluster.http.post(f"/api/v1/task/{task}", **request_)
    elapsed = time.monotonic() - start
    assert answer.status_code == status, answer.text[:300]
    assert isinstance(answer.json().get("details") or answer.json().get("detail"), str)
    assert "Traceback" not in answer.text and "/deployments/" not in answer.text
    assert elapsed < AT_ONCE_S, f"{elapsed:.2f} s"


CAIKIT_GRPC: list[tuple[str, str, dict[str, Any], str, StatusCode]] = [
    ("unknown model", "Sentiment", {"text_in": POSITIVE}, "nope", StatusCode.NOT_FOUND),
    ("path as model", "Sentiment", {"text_in": POSITIVE}, "../x", StatusCode.NOT_FOUND),
    ("no model", "Sentiment", {"text_in": POSITIVE}, "", StatusCode.INVALID_ARGUMENT),
    (
        "model of another task",
        "Sentiment",
        {"text_in": POSITIVE},
        "summarization",
        StatusCode.INVALID_ARGUMENT,
    ),
    ("empty text", "Sentiment", {}, "sentiment", StatusCode.INVALID_ARGUMENT),
    ("oversized text", "Sentiment", {"text_in": HUGE_TEXT}, "sentiment", StatusCode.RESOURCE_EXHAUSTED),
    (
        "oversized message",
        "Sentiment",
        {"text_in": "a" * (33 * 1024 * 1024)},
        "sentiment",
        StatusCode.RESOURCE_EXHAUSTED,
    ),
    (
        "10,000 items",
        "SentenceSimilarity",
        {"sentences": MANY},
        "sentence_similarity",
        StatusCode.RESOURCE_EXHAUSTED,
    ),
    (
        "not an image",
        "ImageClassification",
        {"encoded_bytes_or_url": text(b"hello")},
        "image_classification",
        StatusCode.INVALID_ARGUMENT,
    ),
    (
        "decompression bomb",
        "ImageSegmentation",
        {"encoded_bytes_or_url": text(bomb())},
        "image_segmentation",
        StatusCode.RESOURCE_EXHAUSTED,
    ),
    (
        "a URL of a forbidden host",
        "ObjectDetection",
        {"encoded_bytes_or_url": "http://127.0.0.1:8265/"},
        "object_detection",
        StatusCode.PERMISSION_DENIED,
    ),
]


@pytest.mark.parametrize(
    ("case", "title", "fields", "model_id", "code"), CAIKIT_GRPC, ids=[case[0] for case in CAIKIT_GRPC]
)
def test_caikit_grpc(
    cluster: Cluster, case: str, title: str, fields: dict[str, Any], model_id: str, code: StatusCode
) -> None:
    client = Caikit(cluster.channel)
    start = time.monotonic()
    with pytest.raises(grpc.RpcError) as error:
        client.call(title, fields, ("mm-model-id", model_id))
    elapsed = time.monotonic() - start
    assert error.value.code() is code, error.value.details()
    assert error.value.details() and "Traceback" not in error.value.details()
    assert elapsed < AT_ONCE_S, f"{elapsed:.2f} s"
    client.call("Sentiment", {"text_in": POSITIVE}, ("mm-model-id", "sentiment"))


def test_malformed_protobuf(cluster: Cluster) -> None:
    rpc = cluster.channel.unary_unary("/caikit.runtime.Runtime.RuntimeService/SentimentTaskPredict")
    for raw in (b"\xff\xff\xff", b"\x0a\x02\xff\xfe"):
        with pytest.raises(grpc.RpcError) as error:
            rpc(raw, metadata=[("mm-model-id", "sentiment")], timeout=10)
        assert (error.value.code(), error.value.details()) == (
            StatusCode.INTERNAL,
            "Exception deserializing request!",
        )


def test_one_bad_item_of_a_list_fails_alone(cluster: Cluster) -> None:
    inputs = [text(example_image()), text(truncated()), text(example_image())]
    first, second, third = cluster.http.post("/models/image_classification", json={"inputs": inputs}).json()
    assert first[0]["label"] == third[0]["label"] == "square"
    assert "error" in second


@pytest.mark.parametrize("suffix", ["", "; charset=utf-8"])
def test_a_charset_is_accepted(cluster: Cluster, suffix: str) -> None:
    body = b'{"inputs": "caf\xc3\xa9 is good", "model_id": "sentiment"}'
    headers = {"content-type": f"application/json{suffix}"}
    answer = cluster.http.post("/api/v1/task/sentiment", content=body, headers=headers)
    assert answer.status_code == httpx.codes.OK
