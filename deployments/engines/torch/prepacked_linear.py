"""Linear layers whose weights lie as oneDNN reads them, laid out once: the same numbers, in less time.

Otherwise torch lays the weights of a layer out at every call, which takes longer than the product where few
tokens pass: one short text, or a step of generation.
"""

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from deployments.errors import ModelNotReady

if TYPE_CHECKING:
    import torch

ROWS = 32  # tokens of a pass for which the layout is best; it holds for any number of them
DTYPES = ("torch.float32", "torch.bfloat16")


def prepack(model: Any) -> None:
    """Replace a model's linear layers by prepacked ones, where their weights are of one of the `DTYPES`.

    A layer that shares its weights with another stays, as does one of a subclass. A network that computes
    with a layer's weights itself cannot run so. Raises `ModelNotReady` where there is no processor's oneDNN.
    """
    import torch

    if model.device.type != "cpu":
        raise ModelNotReady("`engine.prepack` is for processors, and this replica has a GPU")
    shared = _shared_weights(model)
    try:
        with torch.no_grad():
            for module in [*model.modules()]:
                _replace_layers(module, shared)
    except (AttributeError, NotImplementedError, RuntimeError) as refused:
        raise ModelNotReady(f"`engine.prepack`: this torch or processor cannot do it: {refused}") from refused


def _replace_layers(parent: "torch.nn.Module", shared: set[int]) -> None:
    import torch

    for name, layer in parent.named_children():
        plain = type(layer) is torch.nn.Linear and str(layer.weight.dtype) in DTYPES
        if plain and id(layer.weight) not in shared:
            setattr(parent, name, _prepacked_linear()(layer))


def _shared_weights(model: "torch.nn.Module") -> set[int]:
    """Return the ids of the parameters that more than one module has: prepacked, they would be held twice."""
    users = Counter(id(weight) for module in model.modules() for weight in module.parameters(recurse=False))
    return {weight for weight, count in users.items() if count > 1}


@cache
def _prepacked_linear() -> type:
    """Make the class: torch is not imported before a model loads."""
    import torch

    class PrepackedLinear(torch.nn.Module):
        """Stands in for a linear layer; `weight` has its shape and dtype, in the layout of oneDNN."""

        def __init__(self, layer: torch.nn.Linear) -> None:
            super().__init__()
            self.in_features, self.out_features = layer.in_features, layer.out_features
            # torch has no public way to lay a weight out for a number of rows: `to_mkldnn` takes more time.
            packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight, ROWS)
            self.weight = torch.nn.Parameter(packed, requires_grad=False)
            self.bias = layer.bias

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
                input, self.weight, self.bias, "none", [], ""
            )
            return output

    return PrepackedLinear
