"""A house without Ray for the page: the whole door over a fake router whose answers are worth looking at."""

import asyncio
import io
import math
import threading
import time
import zlib
from collections.abc import AsyncGenerator
from contextlib import contextmanager
from typing import Any

import uvicorn
from PIL import Image, ImageDraw

from deployments.card import Card, Replicas
from deployments.dialects import DIALECTS
from deployments.gateway import http_app as web
from deployments.generation.output import GeneratedChunk, Token
from deployments.schema import Box, DetectedObject, Label, Segment, Vector
from deployments.task import TASKS
from deployments.telemetry.request_stats import Figures
from tests.fake_router import FakeRouter

LEVEL = "warning"
SIZE = 320, 200


def picture() -> bytes:
    """A landscape: sky, grass, a red sun and a brown house."""
    drawn = Image.new("RGB", SIZE, "#9ecbff")
    pen = ImageDraw.Draw(drawn)
    pen.rectangle((0, 130, 320, 200), fill="#5d9948")
    pen.ellipse((230, 20, 280, 70), fill="#e33b2e")
    pen.rectangle((60, 80, 150, 160), fill="#8a5a3b")
    png = io.BytesIO()
    drawn.save(png, "PNG")
    return png.getvalue()


def mask(*box: int) -> bytes:
    drawn = Image.new("L", SIZE)
    ImageDraw.Draw(drawn).rectangle(box, fill=255)
    png = io.BytesIO()
    drawn.save(png, "PNG")
    return png.getvalue()


def vector(text: str, size: int = 96) -> list[float]:
    seed = zlib.crc32(text.encode()) % 1000
    return [math.sin(seed + i * 0.7) * math.exp(-(((i - seed % size) / 30) ** 2)) for i in range(size)]


def said(text: str) -> list[str]:
    return [f"{word} " for word in f"You said {text} and that is quite all there is to say".split()]


class House(FakeRouter):
    """Its `figures` are what GET /status tells; `pace` is the time between two tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.fresh = dict(self.cards)
        self.reset()

    def reset(self) -> None:
        self.forget()
        self.cards = dict(self.fresh)
        self.pace = 0.04
        self.outputs = {name: getattr(self, f"_{name.replace('-', '_')}", None) for name in TASKS}
        self.outputs = {name: output for name, output in self.outputs.items() if output}
        self.streams = {name: self._talk for name, task in TASKS.items() if task.chunk}

    def add(self, model: str, task: str, **facts: Any) -> None:
        facts = {"state": "ready", "replicas": Replicas(running=1, wanted=1), **facts}
        self.cards = {**self.cards, model: Card(id=model, task=task, **facts)}
        self.outputs[model] = self.outputs.get(task, lambda _: None)

    def remove(self, model: str) -> None:
        self.cards = {name: card for name, card in self.cards.items() if name != model}

    async def figures(self) -> list[Figures]:
        beat = time.time()
        return [
            Figures(
                id=name,
                requests_per_second=round(3 + 2 * math.sin(beat / 3 + place), 2),
                p50_ms=12.5 + place,
                p95_ms=round(40 + 9 * math.cos(beat + place), 1),
                in_flight=int(beat + place) % 4,
            )
            for place, (name, card) in enumerate(self.cards.items())
            if card.state == "ready"
        ]

    def _sentiment(self, asked: Any) -> Any:
        sure = 0.5 + zlib.crc32(asked.text.encode()) % 1000 / 2020
        return TASKS["sentiment"].output(
            labels=[Label(label="positive", score=sure), Label(label="negative", score=1 - sure)]
        )

    def _image_classification(self, asked: Any) -> Any:
        scores = {"house": 0.71, "landscape": 0.2, "sunset": 0.05, "barn": 0.03, "field": 0.01}
        labels = [Label(label=name, score=score) for name, score in scores.items()]
        return TASKS["image-classification"].output(labels=labels)

    def _object_detection(self, asked: Any) -> Any:
        wide, high = Image.open(io.BytesIO(asked.image)).size
        places = {"sun": (0.72, 0.1, 0.875, 0.35), "house": (0.19, 0.4, 0.47, 0.8)}
        found = [
            DetectedObject(
                label=label,
                score=0.93,
                box=Box(
                    xmin=round(a * wide), ymin=round(b * high), xmax=round(c * wide), ymax=round(d * high)
                ),
            )
            for label, (a, b, c, d) in places.items()
        ]
        return TASKS["object-detection"].output(objects=found)

    def _image_segmentation(self, asked: Any) -> Any:
        regions = {"sky": (0, 0, 320, 129), "grass": (0, 130, 320, 200), "house": (60, 80, 150, 160)}
        found = [Segment(label=name, score=0.97, mask=mask(*box)) for name, box in regions.items()]
        return TASKS["image-segmentation"].output(segments=found)

    def _embeddings(self, asked: Any) -> Any:
        return TASKS["embeddings"].output(embedding=vector(asked.text))

    def _sentence_similarity(self, asked: Any) -> Any:
        told = TASKS["sentence-similarity"].output
        vectors = [vector(text) for text in asked.sentences]
        if asked.source_sentence is None:
            return told(embeddings=[Vector(index=i, values=one) for i, one in enumerate(vectors)])
        return told(similarities=[round(0.9 - 0.25 * i, 3) for i, _ in enumerate(vectors)])

    def _summarization(self, asked: Any) -> Any:
        return TASKS["summarization"].output(summary_text=f"In short: {asked.text.split('.')[0]}.")

    async def _talk(self, asked: Any) -> AsyncGenerator[GeneratedChunk, None]:
        text = asked.text if hasattr(asked, "text") else asked.messages[-1].content
        pieces = said(text)
        for index, piece in enumerate(pieces, 1):
            await asyncio.sleep(self.pace)
            whole = "".join(pieces).strip() if index == len(pieces) else None
            token = Token(id=index, text=piece, logprob=-0.5, special=False)
            yield GeneratedChunk(index=index, token=token, generated_text=whole)


def door(house: House) -> Any:
    """The router's door."""
    return web.build(house, DIALECTS)


@contextmanager
def serving(make: Any, port: int = 0) -> Any:
    """Serve what `make()` returns, in a thread with its own loop; yields its address."""
    served = uvicorn.Server(uvicorn.Config("", port=port, log_level=LEVEL, timeout_graceful_shutdown=1))

    async def run() -> None:
        served.config.app = make()
        await served.serve()

    thread = threading.Thread(target=asyncio.run, args=[run()], daemon=True)
    thread.start()
    while not served.started:
        time.sleep(0.02)
        assert thread.is_alive(), "it did not start"
    yield f"http://127.0.0.1:{served.servers[0].sockets[0].getsockname()[1]}"
    served.should_exit = True
    thread.join(5)
