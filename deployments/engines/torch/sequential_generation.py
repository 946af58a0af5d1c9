"""Running rows one after the other, each with its own cache: for models whose caches cannot be joined."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deployments.engines.capabilities import parameters, pass_options

if TYPE_CHECKING:
    import torch


class Apart:
    """Runs rows each in a cache of its own kind: a step is a forward pass for every one of them.

    For models whose caches cannot be joined: each row goes through the network as in `generate`.
    """

    pads = undoes = False
    read_beside_step = None

    def __init__(self, model: Any, most: int | None = None) -> None:
        self.model, self.most, self.device = model, most, model.device
        self.options = pass_options(model)
        self.clear()

    def clear(self) -> None:
        self.rows: list[tuple[torch.Tensor, dict[str, Any]]] = []

    def read(self, rows: Sequence[list[int]]) -> tuple["torch.Tensor", Any]:
        import torch

        begun = [self._begin(torch.tensor([row], device=self.device)) for row in rows]
        return torch.cat([logits for logits, _ in begun]), [row for _, row in begun]

    def join(self, read: Any, places: list[int]) -> None:
        self.rows = self.rows + [read[place] for place in places]

    def step(self, tokens: list[int]) -> "torch.Tensor":
        import torch

        stepped = []
        for place, ((ids, state), token) in enumerate(zip(self.rows, tokens, strict=True)):
            ids = torch.cat([ids, ids.new_tensor([[token]])], -1)
            logits, self.rows[place] = self._forward(ids, state, next_sequence_length=1)
            stepped.append(logits)
        return torch.cat(stepped)

    def keep(self, places: list[int]) -> None:
        self.rows = [self.rows[place] for place in places]

    def _begin(self, ids: "torch.Tensor") -> tuple["torch.Tensor", Any]:
        import torch

        state = dict(self.options)
        if "position_ids" in parameters(self.model):
            state["position_ids"] = torch.arange(ids.shape[-1], device=self.device).unsqueeze(0)
        return self._forward(ids, state, is_first_iteration=True)

    def _forward(self, ids: "torch.Tensor", state: dict[str, Any], **now: Any) -> tuple["torch.Tensor", Any]:
        inputs = self.model.prepare_inputs_for_generation(ids, **now, **state)
        outputs = self.model(**inputs, return_dict=True)
        return outputs.logits[:, -1], (ids, self.model._update_model_kwargs_for_generation(outputs, state))
