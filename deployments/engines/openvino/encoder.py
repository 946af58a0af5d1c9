"""OpenVINO as the engine of a network that reads texts whole: on a processor, they take less time."""

from typing import Any

from deployments.engines.openvino.network import Paged, Piece, checked
from deployments.engines.packing import PACKED_PADDING, PROBE, Groups, install_packed

LONG = 256  # tokens, more than the windows that some networks see: what was traced must hold there as well


def compile(model: Any) -> float:
    """Let OpenVINO run a text encoder's passes, without padding; its outputs are padded as before.

    Returns what a padded token costs from now on, beside a real one. Raises `ModelNotReady` where there is no
    OpenVINO, or it cannot run this network as torch does.
    """
    probes = PROBE, (_longest(model.config),)
    checked(model, lambda tolerance: install_packed(model, lambda: _Encoder(model), probes, tolerance))
    return PACKED_PADDING


class _Encoder:
    """A compiled network in the place of its `forward`, for texts in one row."""

    def __init__(self, model: Any) -> None:
        import torch

        self._dtype = model.dtype  # of what torch does with the outputs
        self._vocabulary = model.get_input_embeddings().num_embeddings
        row = {name: torch.arange(6).unsqueeze(0) for name in ("input_ids", "position_ids")}
        outputs = model.base_model(**row)
        self._output = type(outputs)
        self._fields = fields = [name for name, value in outputs.items() if isinstance(value, torch.Tensor)]

        def forward(network: Any, ids: Any, positions: Any, **pages: Any) -> tuple[Any, ...]:
            mask = torch.ones_like(ids)
            found = network.base_model(input_ids=ids, position_ids=positions, attention_mask=mask, **pages)
            return tuple(found[name] for name in fields)

        self._network = Paged(model, forward, [*row.values()])

    def __call__(self, input_ids: Any, position_ids: Any, cu_seq_lens_q: Groups, **given: Any) -> Any:
        import torch

        if any(isinstance(value, torch.Tensor) for value in given.values()):
            raise NotImplementedError(f"only ids were compiled, and given was {', '.join(given)}")
        if (largest := int(input_ids.max())) >= self._vocabulary:  # OpenVINO would look up something else
            raise IndexError(f"token {largest} of a network with {self._vocabulary}")
        pieces: list[Piece] = []
        end = 0
        for count, length in cu_seq_lens_q:
            for _ in range(count):
                begin, end = end, end + -(-length // self._network.block_size)
                pieces.append(Piece(0, length, range(begin, end)))
        self._network.reserve(end)
        found = self._network([input_ids.numpy(), position_ids.numpy()], pieces)
        return self._output(
            **{name: value.to(self._dtype) for name, value in zip(self._fields, found, strict=True)}
        )


def _longest(config: Any) -> int:
    return min(getattr(config, "max_position_embeddings", LONG), LONG) - 2  # RoBERTa's kin use two less
