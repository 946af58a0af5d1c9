"""Generation with a separate cache and forward pass for each sequence, for models that cannot batch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deployments.engines.capabilities import forward_options, forward_parameters, text_config

if TYPE_CHECKING:
    import torch


class SequentialRunner:
    """Runs each sequence in a cache of the model's type: a step is one forward pass for every sequence.

    For models whose caches cannot be combined: the passes are those of transformers' `generate`.
    """

    pads = can_roll_back = False
    prefill_and_decode = None

    def __init__(self, model: Any, max_sequences: int | None = None) -> None:
        self.model, self.max_sequences, self.device = model, max_sequences, model.device
        self.options = forward_options(model)
        self.clear()

    def clear(self) -> None:
        self.sequences: list[tuple[torch.Tensor, dict[str, Any]]] = []  # token ids, and the model's kwargs

    def prefill(self, prompts: Sequence[list[int]]) -> tuple["torch.Tensor", Any]:
        import torch

        results = [self._prefill(torch.tensor([prompt], device=self.device)) for prompt in prompts]
        return torch.cat([logits for logits, _ in results]), [sequence for _, sequence in results]

    def append(self, caches: Any, indices: list[int]) -> None:
        self.sequences = self.sequences + [caches[index] for index in indices]

    def decode(self, tokens: list[int]) -> "torch.Tensor":
        import torch

        all_logits = []
        for index, ((ids, kwargs), token) in enumerate(zip(self.sequences, tokens, strict=True)):
            ids = torch.cat([ids, ids.new_tensor([[token]])], -1)
            logits, self.sequences[index] = self._forward(ids, kwargs, next_sequence_length=1)
            all_logits.append(logits)
        return torch.cat(all_logits)

    def select(self, indices: list[int]) -> None:
        self.sequences = [self.sequences[index] for index in indices]

    def _prefill(self, ids: "torch.Tensor") -> tuple["torch.Tensor", Any]:
        import torch

        kwargs = dict(self.options) | self._new_cache()
        if "position_ids" in forward_parameters(self.model):
            kwargs["position_ids"] = torch.arange(ids.shape[-1], device=self.device).unsqueeze(0)
        return self._forward(ids, kwargs, is_first_iteration=True)

    def _new_cache(self) -> dict[str, Any]:
        """Return an empty cache as `generate` creates it; networks of other kinds create their own."""
        from transformers import DynamicCache

        if "past_key_values" not in forward_parameters(self.model):
            return {}
        if not self.model._supports_default_dynamic_cache():
            return {}
        return {"past_key_values": DynamicCache(config=text_config(self.model))}

    def _forward(
        self, ids: "torch.Tensor", kwargs: dict[str, Any], **options: Any
    ) -> tuple["torch.Tensor", Any]:
        inputs = self.model.prepare_inputs_for_generation(ids, **options, **kwargs)
        outputs = self.model(**inputs, return_dict=True)
        kwargs = self.model._update_model_kwargs_for_generation(outputs, kwargs)
        return outputs.logits[:, -1], (ids, kwargs)
