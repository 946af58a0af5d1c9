"""A gateway without Ray for the tests of the UI: a fake router with realistic outputs."""

import asyncio
import io
import math
import threading
import time
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from PIL import Image, ImageDraw

from deployments.card import Card, Replicas
from deployments.dialects import DIALECTS
from deployments.gateway import http_app
from deployments.generation.output import GeneratedChunk, Token
from deployments.schema import Box, DetectedObject, Label, Segment, Vector
from deployments.task import TASKS
from deployments.telemetry.request_stats import ModelStats
from tests.fake_router import FakeRouter

LOG_LEVEL = "warning"
IMAGE_SIZE = 320, 200


def encoded_image() -> bytes:
    """Return a PNG of a landscape: sky, grass, a red sun and a brown building."""
    image = Image.new("RGB", IMAGE_SIZE, "#9ecbff")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 130, 320, 200), fill="#5d9948")
    pen.ellipse((230, 20, 280, 70), fill="#e33b2e")
    pen.rectangle((60, 80, 150, 160), fill="#8a5a3b")
    return _png(image)


def encoded_mask(*box: int) -> bytes:
    """Return a PNG that is white inside the box and black elsewhere."""
    image = Image.new("L", IMAGE_SIZE)
    ImageDraw.Draw(image).rectangle(box, fill=255)
    return _png(image)


def _png(image: Image.Image) -> bytes:
    png = io.BytesIO()
    image.save(png, "PNG")
    return png.getvalue()


def embedding(text: str, size: int = 96) -> list[float]:
    """Return a vector that depends on the text alone."""
    seed = zlib.crc32(text.encode()) % 1000
    return [math.sin(seed + i * 0.7) * math.exp(-(((i - seed % size) / 30) ** 2)) for i in range(size)]


def generated_words(text: str) -> list[str]:
    """Return the tokens of the generated text for a prompt."""
    return [f"{word} " for word in f"You said {text} and that is quite all there is to say".split()]


class DemoRouter(FakeRouter):
    """A fake router with outputs for every task. `token_delay` is the time between two tokens in seconds."""

    def reset(self) -> None:
        """Restore the initial models and outputs, and drop the received requests."""
        super().reset()
        self.token_delay = 0.04
        outputs = {name: getattr(self, f"_{name.replace('-', '_')}", None) for name in TASKS}
        self.outputs = {name: output for name, output in outputs.items() if output}
        self.streams = {name: self._generate for name, task in TASKS.items() if task.chunk}

    def add_model(self, model: str, task: str, **fields: Any) -> None:
        """Add or replace a model; `fields` are fields of its card."""
        fields = {"state": "ready", "replicas": Replicas(running=1, wanted=1), **fields}
        self.cards = {**self.cards, model: Card(id=model, task=task, **fields)}
        self.outputs[model] = self.outputs.get(task, lambda _: None)

    def remove_model(self, model: str) -> None:
        """Remove the model."""
        self.cards = {name: card for name, card in self.cards.items() if name != model}

    async def stats(self) -> list[ModelStats]:
        """Return statistics that change over time."""
        now = time.time()
        return [
            ModelStats(
                id=name,
                requests_per_second=round(3 + 2 * math.sin(now / 3 + index), 2),
                p50_ms=12.5 + index,
                p95_ms=round(40 + 9 * math.cos(now + index), 1),
                in_flight=int(now + index) % 4,
            )
            for index, (name, card) in enumerate(self.cards.items())
            if card.state == "ready"
        ]

    def _sentiment(self, input: Any) -> Any:
        score = 0.5 + zlib.crc32(input.text.encode()) % 1000 / 2020
        return TASKS["sentiment"].output(
            labels=[Label(label="positive", score=score), Label(label="negative", score=1 - score)]
        )

    def _image_classification(self, input: Any) -> Any:
        scores = {"building": 0.71, "landscape": 0.2, "sunset": 0.05, "barn": 0.03, "field": 0.01}
        labels = [Label(label=name, score=score) for name, score in scores.items()]
        return TASKS["image-classification"].output(labels=labels)

    def _object_detection(self, input: Any) -> Any:
        width, height = Image.open(io.BytesIO(input.image)).size
        boxes = {"sun": (0.72, 0.1, 0.875, 0.35), "building": (0.19, 0.4, 0.47, 0.8)}
        objects = [
            DetectedObject(
                label=label,
                score=0.93,
                box=Box(
                    xmin=round(left * width),
                    ymin=round(top * height),
                    xmax=round(right * width),
                    ymax=round(bottom * height),
                ),
            )
            for label, (left, top, right, bottom) in boxes.items()
        ]
        return TASKS["object-detection"].output(objects=objects)

    def _image_segmentation(self, input: Any) -> Any:
        boxes = {"sky": (0, 0, 320, 129), "grass": (0, 130, 320, 200), "building": (60, 80, 150, 160)}
        segments = [Segment(label=name, score=0.97, mask=encoded_mask(*box)) for name, box in boxes.items()]
        return TASKS["image-segmentation"].output(segments=segments)

    def _embeddings(self, input: Any) -> Any:
        return TASKS["embeddings"].output(embedding=embedding(input.text))

    def _sentence_similarity(self, input: Any) -> Any:
        output = TASKS["sentence-similarity"].output
        if input.source_sentence is None:
            vectors = [
                Vector(index=index, values=embedding(text)) for index, text in enumerate(input.sentences)
            ]
            return output(embeddings=vectors)
        return output(similarities=[round(0.9 - 0.25 * index, 3) for index, _ in enumerate(input.sentences)])

    def _summarization(self, input: Any) -> Any:
        return TASKS["summarization"].output(summary_text=f"In short: {input.text.split('.')[0]}.")

    async def _generate(self, input: Any) -> AsyncGenerator[GeneratedChunk, None]:
        prompt = input.text if hasattr(input, "text") else input.messages[-1].content
        words = generated_words(prompt)
        for index, word in enumerate(words, 1):
            await asyncio.sleep(self.token_delay)
            text = "".join(words).strip() if index == len(words) else None
            token = Token(id=index, text=word, logprob=-0.5, special=False)
            yield GeneratedChunk(index=index, token=token, generated_text=text)


def gateway_app(router: DemoRouter) -> Any:
    """Build the gateway's HTTP application with all dialects."""
    return http_app.build(router, DIALECTS)


@contextmanager
def serve_in_thread(build_app: Callable[[], Any]) -> Iterator[str]:
    """Serve the application that `build_app()` returns in a thread with its own loop; yield its URL."""
    server = uvicorn.Server(uvicorn.Config("", port=0, log_level=LOG_LEVEL, timeout_graceful_shutdown=1))

    async def run() -> None:
        server.config.app = build_app()
        await server.serve()

    thread = threading.Thread(target=asyncio.run, args=[run()], daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
        assert thread.is_alive(), "the server did not start"
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(5)
