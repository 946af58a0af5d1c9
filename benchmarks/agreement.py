"""Whoever is compared must give the same answers: a sample of them is held against the module's own."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

LEAST_COSINE = 0.9999


class Disagreement(Exception):
    """A server answered something else."""


def require(answers: Mapping[int, Any], expected: Sequence[Any], least_cosine: float = LEAST_COSINE) -> float:
    """Compare each answer with the expected one in its place; the least cosine. Raises `Disagreement`.

    An answer is a vector, or labels with their scores, in however many lists.
    """
    compared = []
    for place in sorted(answers.keys() & set(range(len(expected)))):
        found = cosine(numbers(answers[place]), numbers(expected[place]))
        if found <= least_cosine:
            raise Disagreement(f"answer {place} has a cosine of {found:.5f} to the module's own")
        compared.append(found)
    if not compared:
        raise Disagreement("no answer could be compared")
    return min(compared)


def numbers(answer: Any) -> list[float]:
    """An answer as one vector: its numbers, or its scores in the order of their labels."""
    flat = _flat(answer)
    if flat and isinstance(flat[0], Mapping):
        return [one["score"] for one in sorted(flat, key=lambda one: one["label"])]
    return [float(one) for one in flat]


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """The cosine of the angle between two vectors; 0 where their lengths differ."""
    if len(a) != len(b):
        return 0.0
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def _flat(answer: Any) -> list[Any]:
    if isinstance(answer, list):
        return [leaf for part in answer for leaf in _flat(part)]
    return [answer]
