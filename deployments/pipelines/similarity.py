"""How near vectors are to each other, by the functions that sentence-transformers names."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def normalize(vectors: "torch.Tensor") -> "torch.Tensor":
    """Scale the vectors to length 1."""
    from torch.nn import functional

    return functional.normalize(vectors, dim=-1)


def _cosine(source: "torch.Tensor", others: "torch.Tensor") -> "torch.Tensor":
    return normalize(others) @ normalize(source)


def _dot(source: "torch.Tensor", others: "torch.Tensor") -> "torch.Tensor":
    return others @ source


def _negative_distance(order: int) -> Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]:
    return lambda source, others: -(others - source).norm(p=order, dim=-1)


SIMILARITIES: dict[str, Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _negative_distance(2),
    "manhattan": _negative_distance(1),
}
"""Functions of a vector (size,) and others (texts, size); each returns (texts,), greater if nearer."""
