"""OpenVINO as the engine of encoder networks: they take less time on a CPU."""

from typing import Any

from deployments.engines.openvino.network import PagedNetwork, Subsequence, check_compiled
from deployments.engines.packing import PACKED_PADDING, PROBE_LENGTHS, LengthGroups, install_packed_forward

LONG_PROBE = 256  # tokens; longer than some networks' attention windows, which a trace must handle as well


def compile_encoder(model: Any) -> float:
    """Make OpenVINO run a text encoder's passes without padding; its outputs stay padded.

    Returns the cost of a padded token relative to a real one. Raises `ModelNotReady` if OpenVINO is not
    installed or cannot run this network as torch does.
    """
    probes = PROBE_LENGTHS, (_long_probe(model.config),)

    def install(tolerance: float) -> None:
        install_packed_forward(model, lambda: _CompiledForward(model), probes, tolerance)

    check_compiled(model, install)
    return PACKED_PADDING


class _CompiledForward:
    """A compiled network that replaces its `forward`, for texts in one row."""

    def __init__(self, model: Any) -> None:
        import torch

        self._dtype = model.dtype  # torch expects the outputs in it
        self._vocabulary_size = model.get_input_embeddings().num_embeddings
        example = {name: torch.arange(6).unsqueeze(0) for name in ("input_ids", "position_ids")}
        outputs = model.base_model(**example)
        self._output_type = type(outputs)
        self._fields = fields = [name for name, value in outputs.items() if isinstance(value, torch.Tensor)]

        def forward(network: Any, ids: Any, positions: Any, **kwargs: Any) -> tuple[Any, ...]:
            mask = torch.ones_like(ids)
            outputs = network.base_model(input_ids=ids, position_ids=positions, attention_mask=mask, **kwargs)
            return tuple(outputs[name] for name in fields)

        self._network = PagedNetwork(model, forward, [*example.values()])

    def __call__(self, input_ids: Any, position_ids: Any, cu_seq_lens_q: LengthGroups, **kwargs: Any) -> Any:
        import torch

        if any(isinstance(value, torch.Tensor) for value in kwargs.values()):
            raise NotImplementedError(f"the compiled network takes ids only, not {', '.join(kwargs)}")
        if (largest := int(input_ids.max())) >= self._vocabulary_size:  # OpenVINO raises no error for it
            raise IndexError(f"token {largest} of a network with {self._vocabulary_size}")
        outputs = self._network([input_ids.numpy(), position_ids.numpy()], self._subsequences(cu_seq_lens_q))
        pairs = zip(self._fields, outputs, strict=True)
        return self._output_type(**{name: value.to(self._dtype) for name, value in pairs})

    def _subsequences(self, length_groups: LengthGroups) -> list[Subsequence]:
        """Return one subsequence for each text, and reserve its blocks."""
        subsequences: list[Subsequence] = []
        end = 0
        for count, length in length_groups:
            for _ in range(count):
                start, end = end, end + -(-length // self._network.block_size)
                subsequences.append(Subsequence(0, length, range(start, end)))
        self._network.reserve(end)
        return subsequences


def _long_probe(config: Any) -> int:
    # RoBERTa models use two positions fewer than they have.
    return min(getattr(config, "max_position_embeddings", LONG_PROBE), LONG_PROBE) - 2
