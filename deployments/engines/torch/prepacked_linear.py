"""Linear layers whose weights have oneDNN's layout in advance: the same outputs in less time.

By default torch converts the weights of a layer at every call. For few tokens, such as one short text or a
decoding step, that takes longer than the product.
"""

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from deployments.errors import ModelNotReady

if TYPE_CHECKING:
    import torch

TOKENS = 32  # the tokens of a pass for which the layout is best; it works for any number
DTYPES = ("torch.float32", "torch.bfloat16")


def prepack(model: Any) -> None:
    """Replace the linear layers of a model whose weights have one of the `DTYPES` by prepacked ones.

    A layer that shares its weights with another stays unchanged, as does one of a subclass. A network that
    computes with a layer's weights itself cannot run with them. Raises `ModelNotReady` without a CPU and
    oneDNN.
    """
    import torch

    if model.device.type != "cpu":
        raise ModelNotReady("`engine.prepack` is for CPUs, and this replica has a GPU")
    shared = _shared_weights(model)
    try:
        with torch.no_grad():
            for module in [*model.modules()]:
                _replace_layers(module, shared)
    except (AttributeError, NotImplementedError, RuntimeError) as error:
        raise ModelNotReady(f"`engine.prepack` needs another torch or CPU: {error}") from error


def _replace_layers(parent: "torch.nn.Module", shared: set[int]) -> None:
    import torch

    for name, layer in parent.named_children():
        is_linear = type(layer) is torch.nn.Linear and str(layer.weight.dtype) in DTYPES
        if is_linear and id(layer.weight) not in shared:
            setattr(parent, name, _prepacked_linear_class()(layer))


def _shared_weights(model: "torch.nn.Module") -> set[int]:
    """Return the `id()` of each parameter of several modules; prepacked, it would be in memory twice."""
    users = Counter(id(weight) for module in model.modules() for weight in module.parameters(recurse=False))
    return {weight for weight, count in users.items() if count > 1}


@cache
def _prepacked_linear_class() -> type:
    """Create the class here, because importing this module must not import torch."""
    import torch

    class PrepackedLinear(torch.nn.Module):
        """A linear layer whose `weight` has the original shape and dtype in oneDNN's layout."""

        def __init__(self, layer: torch.nn.Linear) -> None:
            super().__init__()
            self.in_features, self.out_features = layer.in_features, layer.out_features
            # torch has no public function that takes a number of tokens; layers of `to_mkldnn` are slower.
            packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight, TOKENS)
            self.weight = torch.nn.Parameter(packed, requires_grad=False)
            self.bias = layer.bias

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
                input, self.weight, self.bias, "none", [], ""
            )
            return output

    return PrepackedLinear
