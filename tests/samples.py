"""Inputs and parameters for any task, made from nothing but its schemas."""

import base64
import io
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageDraw
from pydantic import BaseModel

from deployments.schema import field_types
from deployments.task import Task

LONG = "The quick brown fox jumps over the lazy dog while it rains. " * 60


def picture(width: int, height: int, form: str = "PNG") -> bytes:
    """Return an encoded picture of a red circle."""
    drawn = Image.new("RGB", (width, height), "white")
    side = min(width, height)
    ImageDraw.Draw(drawn).ellipse((side * 0.2, side * 0.2, side * 0.8, side * 0.8), fill="red")
    encoded = io.BytesIO()
    drawn.save(encoded, form)
    return encoded.getvalue()


def user(*turns: str) -> list[dict[str, str]]:
    """Return a conversation in which the user speaks first."""
    return [{"role": ("user", "assistant")[place % 2], "content": turn} for place, turn in enumerate(turns)]


SAMPLES: dict[str, list[Any]] = {
    "text": ["A", "I loved this film, it was great.", LONG, "Ünïcödé 😀 文字", "\n \t", "Where is it? " * 9],
    "texts": [
        ["A cat."],
        ["A dog.", "It rains today."],
        [LONG, "B", "B"],
        ["😀"],
        [" "],
        ["One.", "Two."] * 5,
    ],
    "image": [
        base64.b64encode(picture(*size)).decode()
        for size in [(64, 64), (200, 80), (48, 120), (9, 31), (64, 64), (301, 200)]
    ],
    "conversation": [
        user("Hello!"),
        user("Hello!", "Hi.", "What is your name?"),
        user(LONG),
        user("😀"),
        user("I am Tom.", "Hello Tom.", "How are you?", "Fine.", "Good."),
        user(" "),
    ],
}


def inputs(task: Task) -> list[BaseModel]:
    """Return the task's examples, and odd ones: tiny, huge, foreign, of all sizes."""
    fields = field_types(task.input)
    odd = [
        dict(zip(fields, values, strict=True))
        for values in zip(*(SAMPLES[word] for word in fields.values()), strict=True)
    ]
    return [task.input.model_validate(item) for item in task.examples() + odd]


def params(task: Task) -> Iterator[dict[str, Any]]:
    """Every parameter alone, at its default and at the ends of its range."""
    schema = task.params.model_json_schema()
    for name, field in schema["properties"].items():
        for option in field.get("anyOf", [field]):
            for value in [field.get("default"), *_values(option)]:
                yield {name: value}


def _values(option: dict[str, Any]) -> list[Any]:
    if "enum" in option:
        return list(option["enum"])
    if option["type"] == "boolean":
        return [True, False]
    if option["type"] == "array":
        return [[], ["e"], ["the end", "."]]
    if option["type"] == "string":
        return ["nonsense"]
    if option["type"] == "null":
        return [None]
    least = option["minimum"] if "minimum" in option else option["exclusiveMinimum"] + 0.01
    return [least, option.get("maximum", 7)]
