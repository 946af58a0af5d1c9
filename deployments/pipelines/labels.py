"""Conversion of a classifier's logits to labels with scores."""

from typing import TYPE_CHECKING, Any, Literal

from deployments.schema import Label

if TYPE_CHECKING:
    import torch

Function = Literal["softmax", "sigmoid", "none"]


def top_labels(
    logits: "torch.Tensor", config: Any, function: Function | None, top_k: int | None, sort: bool = True
) -> list[list[Label]]:
    """Return the best `top_k` labels of each row: best first, or unsorted in the order of their ids.

    Without a `function`, scores come from the checkpoint's default activation.
    """
    import torch

    scores = _apply(function or default_activation(config), logits.float())
    ids = torch.topk(scores, min(top_k or scores.shape[-1], scores.shape[-1])).indices
    ids = ids if sort else ids.sort(-1).values
    return [
        [Label(label=config.id2label[id], score=score) for id, score in zip(*row, strict=True)]
        for row in zip(ids.tolist(), scores.gather(-1, ids).tolist(), strict=True)
    ]


def default_activation(config: Any) -> Function:
    """Return the activation for this checkpoint's logits, by the rules of transformers' pipelines."""
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return "sigmoid"
    function: Function = getattr(config, "function_to_apply", None) or "softmax"
    return function


def _apply(function: Function, logits: "torch.Tensor") -> "torch.Tensor":
    if function == "softmax":
        return logits.softmax(-1)
    return logits.sigmoid() if function == "sigmoid" else logits
