"""Linear layers whose weights lie as the processor reads them, once and for all: the same numbers, sooner.

Left to itself, torch lays the weights of a layer out anew at every call, which takes longer than the work
where few tokens pass: one short text, or a step of generation. torch's own compiler does the same to a model.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from math import inf
from time import process_time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

TRIED_ROWS = (4, 32)  # tokens: a few answers' step, a short text
TRIES = 5  # of each, in turn
SAMPLE = 6  # layers of a shape to try with: a single one would lie in the processor's cache
GAIN = 1.02
TOLERANCE = {"torch.float32": 1e-4, "torch.bfloat16": 2e-2}  # of the largest number


def prepack(model: Any) -> None:
    """Lay the model's linear layers out, those of each shape if they are quicker so, and answer the same.

    Weights that another layer uses as well stay where they are, lest they are held twice.
    """
    import torch

    alike: dict[Any, list[torch.nn.Linear]] = defaultdict(list)
    for layer in _linear_layers(model):
        if layer.weight.device.type == "cpu" and str(layer.weight.dtype) in TOLERANCE:
            alike[layer.weight.shape, layer.weight.dtype].append(layer)
    with torch.inference_mode():
        for layers in alike.values():
            if _is_quicker(layers[:SAMPLE]):
                for layer in layers:
                    packed = torch.nn.Parameter(_laid_out(layer.weight), requires_grad=False)
                    del layer.weight
                    layer.packed = packed
                    layer.__class__ = _prepacked()


def _linear_layers(model: Any) -> "Iterator[torch.nn.Linear]":
    """The model's plain linear layers with weights of their own."""
    import torch

    users = Counter(id(weight) for module in model.modules() for weight in module.parameters(recurse=False))
    for module in model.modules():
        if type(module) is torch.nn.Linear and users[id(module.weight)] == 1:
            yield module


def _laid_out(weight: "torch.Tensor") -> "torch.Tensor":
    import torch

    laid_out: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), max(TRIED_ROWS))
    return laid_out


def _apply(input: "torch.Tensor", weight: "torch.Tensor", bias: "torch.Tensor | None") -> "torch.Tensor":
    import torch

    output: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return output


@cache
def _prepacked() -> type:
    import torch

    class PrepackedLinear(torch.nn.Linear):
        packed: torch.nn.Parameter

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return _apply(input, self.packed, self.bias)

        @property
        def weight(self) -> Any:  # type: ignore[override]
            """Some networks compute with a layer's weights themselves: it becomes a plain layer again."""
            plain: Any = self
            dense = torch.nn.Parameter(self.packed.to_dense(), requires_grad=False)
            del plain.packed
            plain.__class__ = torch.nn.Linear
            plain.weight = dense
            return dense

    return PrepackedLinear


def _is_quicker(layers: "list[torch.nn.Linear]") -> bool:
    """Whether layers of one shape, one after another as in a network, take less time laid out."""
    import torch

    generator = torch.Generator().manual_seed(0)
    seconds, packed_seconds = 0.0, 0.0
    try:
        packed = [(_laid_out(layer.weight), layer.bias) for layer in layers]
        for rows in TRIED_ROWS:
            input = torch.randn(rows, layers[0].in_features, generator=generator).to(layers[0].weight.dtype)
            expected, found = layers[0](input), _apply(input, *packed[0])
            if (found - expected).abs().max() > TOLERANCE[str(input.dtype)] * expected.abs().max():
                return False
            plainly, laid_out = _seconds(
                lambda: [layer(input) for layer in layers],  # noqa: B023
                lambda: [_apply(input, *one) for one in packed],  # noqa: B023
            )
            seconds, packed_seconds = seconds + plainly, packed_seconds + laid_out
    except (AttributeError, NotImplementedError, RuntimeError):  # a torch that was built without oneDNN
        return False
    return seconds > GAIN * packed_seconds


def _seconds(*works: Callable[[], Any]) -> list[float]:
    """The best of some tries of each, in turn: the processor's time, for others are loading beside this."""
    best = [inf] * len(works)
    for _ in range(TRIES):
        for place, work in enumerate(works):
            begin = process_time()
            work()
            best[place] = min(best[place], process_time() - begin)
    return best
