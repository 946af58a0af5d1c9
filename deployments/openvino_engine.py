"""OpenVINO as the engine of a network that reads texts whole: on a processor, a lone text takes less time.

Its products take less where few tokens pass, and all else next to nothing; but it pads, and torch does not
(see `packing`). So a pass with much to pad goes through torch still, and both hold the weights.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from deployments.errors import ModelNotReady
from deployments.packing import agrees, pack, probe
from deployments.prepacking import prepack

if TYPE_CHECKING:
    import torch

MOST_PADDING = (
    8  # tokens of a pass; measured on networks of 10 and 66 million weights, where 6 to 12 are even
)
TOLERANCE, HALF_TOLERANCE = 1e-4, 5e-2  # of the largest number, by the weights' precision
MOST_SAID = 500  # characters of what OpenVINO says


def compile(model: Any) -> float:
    """Let OpenVINO run a text encoder's passes, but for those where torch is quicker; as `pack` otherwise.

    Raises `ModelNotReady` where there is no OpenVINO, or it cannot run this network as torch does.
    """
    import torch

    if model.device.type != "cpu":
        raise ModelNotReady("`engine.name` is openvino, which runs on processors; this replica has a GPU")
    batch = probe(model.config)
    with torch.inference_mode():
        expected = model(**batch)
        try:
            compiled = _Compiled(model, batch, expected)
            found = compiled(**batch)
        except ImportError as absent:
            raise ModelNotReady(f"`engine.name` is openvino, which is not installed: {absent}") from absent
        except Exception as refused:
            said = " ".join(str(refused).split())[:MOST_SAID]
            raise ModelNotReady(f"OpenVINO does not run this network: {said}") from refused
    tolerance = TOLERANCE if model.dtype == torch.float32 else HALF_TOLERANCE
    if not agrees(found[0], expected[0], batch["attention_mask"], tolerance):
        raise ModelNotReady("OpenVINO answers otherwise than torch here; `engine.name: torch` does not")
    padding_cost = pack(model)
    if padding_cost < 1:
        prepack(model)
        model.forward = _quicker(compiled, model.forward)
    else:  # torch pads as well
        model.forward = compiled
        for weight in model.parameters():  # what they are is still told
            weight.data = weight.data.new_empty(1).expand(weight.shape)
    return padding_cost


def _quicker(compiled: "_Compiled", packed: Callable[..., Any]) -> Callable[..., Any]:
    def forward(input_ids: "torch.Tensor", attention_mask: "torch.Tensor") -> Any:
        padding = attention_mask.numel() - int(attention_mask.sum())
        return (compiled if padding <= MOST_PADDING else packed)(
            input_ids=input_ids, attention_mask=attention_mask
        )

    return forward


class _Compiled:
    """A compiled network in the place of its `forward`; for one thread, as a batcher calls it."""

    def __init__(self, model: Any, batch: dict[str, "torch.Tensor"], outputs: Any) -> None:
        import torch

        self._output = type(outputs)
        self._fields = [name for name, value in outputs.items() if isinstance(value, torch.Tensor)]
        converted = _converted(model, batch, self._fields)
        import openvino

        options = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "bf16" if model.dtype == torch.bfloat16 else "f32",
            "ENABLE_CPU_PINNING": False,  # or all replicas would take the first processor
        }
        self._request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()

    def __call__(self, input_ids: "torch.Tensor", attention_mask: "torch.Tensor") -> Any:
        import torch

        self._request.infer([input_ids.numpy(), attention_mask.numpy()], share_inputs=True)
        tensors = [self._request.get_output_tensor(place).data for place in range(len(self._fields))]
        # The next call writes where this one's outputs are.
        return self._output(zip(self._fields, (torch.from_numpy(one.copy()) for one in tensors), strict=True))


def _converted(model: Any, batch: dict[str, "torch.Tensor"], fields: Sequence[str]) -> Any:
    import torch

    # Without it OpenVINO works the same, and does not tell its makers of every import.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model if model.dtype == torch.float32 else deepcopy(model).float()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[Any, ...]:
            outputs = self.network(input_ids=input_ids, attention_mask=attention_mask)
            return tuple(outputs[name] for name in fields)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, of what transformers asks of shapes
        return openvino.convert_model(
            Positional().eval(), example_input=(batch["input_ids"], batch["attention_mask"])
        )
