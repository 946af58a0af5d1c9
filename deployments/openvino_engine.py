"""OpenVINO as the engine of a network that reads texts whole: on a processor, a short text takes less time.

Its products take less where few tokens pass, and all else next to nothing; but it pads, and torch does not
(see `packing`). So a pass with much to pad goes through torch still, and both hold the weights. Those passes
come in too many shapes as well: OpenVINO keeps what it has made for each.
"""

import sys
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from deployments.errors import ModelNotReady
from deployments.packing import PROBE, agrees, pack, probe
from deployments.prepacking import prepack

if TYPE_CHECKING:
    import torch

# Tokens of a pass. Measured on networks of 10 and 66 million weights: at 6 to 12 both take as long.
MOST_PADDING = 8
LONG = 256  # tokens, more than the windows that some networks see: what was traced must hold there as well
TOLERANCE, HALF_TOLERANCE = 1e-4, 5e-2  # of the largest number, by the weights' precision
MOST_SAID = 500  # characters of what OpenVINO says


def compile(model: Any) -> float:
    """Let OpenVINO run a text encoder's passes, but for those where torch is quicker; as `pack` otherwise.

    Raises `ModelNotReady` where there is no OpenVINO, or it cannot run this network as torch does.
    """
    import torch

    if model.device.type != "cpu":
        raise ModelNotReady(
            "OpenVINO runs on processors, and this replica has a GPU: set `engine.device: cpu`"
        )
    try:
        with torch.inference_mode():
            compiled = _Compiled(model, probe(model.config, PROBE))
            alike = all(_alike(compiled, model, lengths) for lengths in (PROBE, (_longest(model.config),)))
    except ImportError as absent:
        raise ModelNotReady(f"OpenVINO is not installed (`pip install '.[openvino]'`): {absent}") from absent
    except Exception as refused:
        said = " ".join(str(refused).split())[:MOST_SAID]
        raise ModelNotReady(f"OpenVINO does not run this network; torch may: {said}") from refused
    if not alike:
        raise ModelNotReady("OpenVINO's answers are not torch's with this network: leave `engine.name` out")
    padding_cost = pack(model)
    prepack(model)
    model.forward = _quicker(compiled, model.forward)
    return padding_cost


def _quicker(compiled: "_Compiled", torchs: Callable[..., Any]) -> Callable[..., Any]:
    def forward(input_ids: "torch.Tensor", attention_mask: "torch.Tensor") -> Any:
        padding = attention_mask.numel() - int(attention_mask.sum())
        # Behind padding on the left, OpenVINO would count a text's positions from the padding.
        whole = padding <= MOST_PADDING and bool(attention_mask[:, 0].all())
        return (compiled if whole else torchs)(input_ids=input_ids, attention_mask=attention_mask)

    return forward


class _Compiled:
    """A compiled network in the place of its `forward`; for one thread, as a batcher calls it."""

    def __init__(self, model: Any, example: dict[str, "torch.Tensor"]) -> None:
        import torch

        # Without this module OpenVINO works the same, and does not tell its makers of every import.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        network = model if model.dtype == torch.float32 else deepcopy(model).float()
        outputs = network(**example)
        self._output = type(outputs)
        self._fields = [name for name, value in outputs.items() if isinstance(value, torch.Tensor)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's, of what transformers asks of shapes
            converted = openvino.convert_model(
                _positional(network, self._fields),
                example_input=(example["input_ids"], example["attention_mask"]),
            )
        options = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "bf16" if model.dtype == torch.bfloat16 else "f32",
            "ENABLE_CPU_PINNING": False,  # or all replicas would take the first processor
        }
        self._request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()

    def __call__(self, input_ids: "torch.Tensor", attention_mask: "torch.Tensor") -> Any:
        import torch

        found = self._request.infer([input_ids.numpy(), attention_mask.numpy()], share_inputs=True)
        return self._output(
            **{name: torch.from_numpy(found[place]) for place, name in enumerate(self._fields)}
        )


def _positional(network: Any, fields: list[str]) -> Any:
    import torch

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[Any, ...]:
            outputs = self.network(input_ids=input_ids, attention_mask=attention_mask)
            return tuple(outputs[name] for name in fields)

    return Positional().eval()


def _longest(config: Any) -> int:
    return min(getattr(config, "max_position_embeddings", LONG), LONG) - 2  # RoBERTa's kin use two less


def _alike(compiled: _Compiled, model: Any, lengths: tuple[int, ...]) -> bool:
    import torch

    batch = probe(model.config, lengths)
    tolerance = TOLERANCE if model.dtype == torch.float32 else HALF_TOLERANCE
    return agrees(compiled(**batch)[0], model(**batch)[0], batch["attention_mask"], tolerance)
