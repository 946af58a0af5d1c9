"""Two hundred inputs give the same numbers, or the same refusals, in every dialect and with every engine."""

import base64
import io
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.end_to_end.cluster import Cluster, in_modes
from tests.end_to_end.test_requests import Caikit

pytestmark = pytest.mark.cluster
in_both_modes = in_modes("fast", "slow")

SENTENCES = [
    "A man is playing the guitar.", "Das Wetter ist heute schön.", "Où est la bibliothèque ?", "¿Dónde está?",
    "Привет, как дела?", "Καλημέρα", "你好,世界", "こんにちは世界", "안녕하세요 세계", "مرحبا بالعالم",
    "שלום עולם", "नमस्ते दुनिया", "สวัสดีชาวโลก", "გამარჯობა", "Բարեւ աշխարհ", "வணக்கம்", "ሰላም ልዑል",
    "Xin chào thế giới", "😀 🏳️", "e\u0301 n\u0303 \u202eright to left", "\U0001f469\u200d\U0001f467",
    "tab\tand\nline", "3.14159 1e-7 0x1F", "<s> [CLS] </s> [MASK]", "\u200b\ufeffzero width",
    "ALL CAPITALS!!!", "x",
]  # fmt: skip
LENGTHS = (1, 2, 5, 12, 20, 60)  # repetitions: from one token to more than the models read
TEXTS = [" ".join([sentence] * count) for sentence in SENTENCES for count in LENGTHS]
REFUSED_TEXTS = ["", "a" * 1_000_001]
MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16")
SIZES = ((64, 64), (1, 1), (300, 20), (33, 77), (220, 160))
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF")
REFUSED_IMAGES = [b"", b"no image", b"\x89PNG\r\n\x1a\n damaged"]
TOLERANCE, ENGINE_TOLERANCE = 1e-6, 1e-3


class Outcome(NamedTuple):
    """The numbers of an answer; None if the request was refused as the client's mistake."""

    numbers: "np.ndarray[Any, Any] | None"

    def equals(self, other: "Outcome", tolerance: float) -> bool:
        if self.numbers is None or other.numbers is None:
            return self.numbers is other.numbers
        return self.numbers.shape == other.numbers.shape and np.allclose(
            self.numbers, other.numbers, atol=tolerance
        )


Ask = Callable[[Any], Outcome]


def over_http(cluster: Cluster, path: str, body: Callable[[Any], Any], numbers: Callable[[Any], Any]) -> Ask:
    def ask(value: Any) -> Outcome:
        content = body(value)
        sent = {"content": content} if isinstance(content, bytes) else {"json": content}
        response = cluster.http.post(path, **sent)
        if response.status_code == httpx.codes.OK:
            return Outcome(np.array(numbers(response.json()), dtype=float))
        assert 400 <= response.status_code < 500, response.text
        return Outcome(None)

    return ask


def by_label(pairs: Any) -> list[float]:
    return [score for _, score in sorted(pairs)]


def labels_of(outputs: list[dict[str, Any]]) -> list[float]:
    """Return the scores of an Open Inference answer, by label."""
    data = {output["name"]: output["data"] for output in outputs}
    return by_label(zip(data["labels"], data["scores"], strict=True))


def tensor(name: str) -> Callable[[Any], Any]:
    return lambda value: {"inputs": [{"name": name, "datatype": "BYTES", "shape": [1], "data": [value]}]}


def vectors(cluster: Cluster, model: str) -> dict[str, Ask]:
    return {
        "hub": over_http(cluster, f"/models/{model}", lambda text: {"inputs": text}, lambda row: row[0]),
        "tei": over_http(
            cluster,
            f"/models/{model}/embed",
            lambda text: {"inputs": text, "truncate": True},
            lambda row: row[0],
        ),
        "open inference": over_http(
            cluster,
            f"/v2/models/{model}/infer",
            tensor("text"),
            lambda answer: next(one["data"] for one in answer["outputs"] if one["name"] == "embedding"),
        ),
    }


def scores(cluster: Cluster, model: str) -> dict[str, Ask]:
    caikit = Caikit(cluster.channel)

    def over_grpc(text: str) -> Outcome:
        try:
            answer = caikit.call("Sentiment", {"text_in": text}, ("mm-model-id", model))
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED):
                raise
            return Outcome(None)
        pairs = ((one["class_name"], one["confidence"]) for one in answer["classes"])
        return Outcome(np.array(by_label(pairs)))

    return {
        "hub": over_http(
            cluster,
            f"/models/{model}",
            lambda text: {"inputs": text},
            lambda row: by_label((one["label"], one["score"]) for one in row[0]),
        ),
        "tei": over_http(
            cluster,
            f"/models/{model}/predict",
            lambda text: {"inputs": text, "truncate": True},
            lambda row: by_label((one["label"], one["score"]) for one in row),
        ),
        "openai": over_http(
            cluster,
            "/v1/moderations",
            lambda text: {"model": model, "input": text},
            lambda answer: by_label(answer["results"][0]["category_scores"].items()),
        ),
        "open inference": over_http(
            cluster,
            f"/v2/models/{model}/infer",
            tensor("text"),
            lambda answer: labels_of(answer["outputs"]),
        ),
        "caikit": over_grpc,
    }


def image_labels(cluster: Cluster, model: str) -> dict[str, Ask]:
    def encoded(image: bytes) -> str:
        return base64.b64encode(image).decode()

    def labels(row: Any) -> list[float]:
        return by_label((one["label"], one["score"]) for one in row)

    return {
        "hub, bytes": over_http(cluster, f"/models/{model}", lambda image: image, labels),
        "hub, json": over_http(cluster, f"/models/{model}", lambda image: {"inputs": encoded(image)}, labels),
        "open inference": over_http(
            cluster,
            f"/v2/models/{model}/infer",
            lambda image: tensor("image")(encoded(image)),
            lambda answer: labels_of(answer["outputs"]),
        ),
    }


def images() -> Iterator[bytes]:
    """Yield a drawing in every mode and size, in each format that can hold it."""
    for number, (mode, size) in enumerate((mode, size) for mode in MODES for size in SIZES):
        picture = Image.new("RGB", size, (235, 235, 225))
        corner = size[0] * 2 // 3, size[1] * 2 // 3
        ImageDraw.Draw(picture).rectangle(
            (size[0] // 4, size[1] // 4, *corner), fill=(30, 60, 40 + 5 * number)
        )
        drawn = picture.convert("I").point(lambda x: x * 256) if mode == "I;16" else picture
        encoded = io.BytesIO()
        for form in FORMATS[number % len(FORMATS) :] + FORMATS:
            try:
                drawn.convert(mode).save(encoded, form)
                break
            except (OSError, ValueError):
                encoded = io.BytesIO()
        yield encoded.getvalue()


def assert_same(asks: dict[str, Ask], values: list[Any], refused: list[Any], tolerance: float) -> None:
    for value in values + refused:
        outcomes = {name: ask(value) for name, ask in asks.items()}
        first = next(iter(outcomes.values()))
        shown = {name: found.numbers for name, found in outcomes.items()}
        assert all(found.equals(first, tolerance) for found in outcomes.values()), (value[:80], shown)
        assert (first.numbers is None) == (value in refused), (value[:80], shown)


@in_both_modes
def test_texts_have_the_same_vectors_in_every_dialect(cluster: Cluster) -> None:
    assert_same(vectors(cluster, "embeddings"), TEXTS, REFUSED_TEXTS, TOLERANCE)


@in_both_modes
def test_texts_have_the_same_scores_in_every_dialect(cluster: Cluster) -> None:
    assert_same(scores(cluster, "sentiment"), TEXTS, REFUSED_TEXTS, TOLERANCE)


@in_both_modes
def test_images_have_the_same_labels_in_every_dialect(cluster: Cluster) -> None:
    assert_same(image_labels(cluster, "image_classification"), [*images()], REFUSED_IMAGES, TOLERANCE)


@pytest.mark.parametrize(
    ("like", "asks"), [("embeddings", vectors), ("sentiment", scores)], ids=["vectors", "scores"]
)
@in_modes("fast")
def test_texts_have_the_same_answers_with_every_engine(
    cluster: Cluster, like: str, asks: Callable[[Cluster, str], dict[str, Ask]]
) -> None:
    cluster.add(f"{like}-openvino", like=like, engine={"name": "openvino"})
    cluster.wait_for_state(f"{like}-openvino", "ready")
    with_engines = {model: asks(cluster, model)["hub"] for model in (like, f"{like}-openvino")}
    assert_same(with_engines, TEXTS, REFUSED_TEXTS, ENGINE_TOLERANCE)
    cluster.remove(f"{like}-openvino")
