"""Running rows in one cache that they join and leave; and which of torch's ways a model's rows run in."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deployments.engines.capabilities import joinable, pass_options, rope_types
from deployments.engines.torch.growing_cache import growing_cache
from deployments.engines.torch.sequential_generation import Apart
from deployments.engines.torch.unpadded_generation import ragged
from deployments.generation.sequence_runner import SequenceRunner

if TYPE_CHECKING:
    import torch

MASK_AHEAD = 64  # columns of the attention mask that are made in advance


class Joined:
    """Rows in one cache, padded on the left: a step is one forward pass for all of them.

    Layers with a sliding window keep all of it, as the others do; their mask cuts the window out.
    """

    most = read_beside_step = None
    pads = undoes = True

    def __init__(self, model: Any, pad: int) -> None:
        self.model, self.pad, self.device = model, pad, model.device
        self.options = pass_options(model)
        self.clear()

    def clear(self) -> None:
        self.lengths: list[int] = []
        self.width = 0
        self.cache: Any = None
        self.mask: Any = None
        self.next: Any = None

    def read(self, rows: Sequence[list[int]]) -> tuple["torch.Tensor", Any]:
        import torch

        longest = max(map(len, rows))
        gaps = [longest - len(row) for row in rows]
        ids = [[self.pad] * gap + row for gap, row in zip(gaps, rows, strict=True)]
        mask = _mask(gaps, longest, self.device)
        cache = growing_cache()
        places = (mask.cumsum(-1) - 1).clamp_min_(0)
        logits = self._forward(torch.tensor(ids, device=self.device), mask, places, cache)
        return logits, (cache, [len(row) for row in rows])

    def join(self, read: Any, places: list[int]) -> None:
        cache, lengths = read
        self._pick(cache, lengths, places)
        lengths = [lengths[place] for place in places]
        if self.lengths:
            width = max(*self.lengths, *lengths)
            stacked = [
                (old, _stack(old.keys, new.keys, width), _stack(old.values, new.values, width))
                for old, new in zip(self.cache.layers, cache.layers, strict=True)
            ]
            self._measure(self.lengths + lengths)
            for layer, keys, values in stacked:
                layer.put(keys, values)
        else:
            self._measure(lengths)
            self.cache = cache

    def step(self, tokens: list[int]) -> "torch.Tensor":
        import torch

        if self.width == self.mask.shape[-1]:
            self._measure(self.lengths)
        ids = torch.tensor(tokens, device=self.device).unsqueeze(-1)
        try:
            logits = self._forward(ids, self.mask[:, : self.width + 1], self.next, self.cache)
            self.next = self.next + 1
        except Exception:
            self._undo()
            raise
        self.width += 1
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    def keep(self, places: list[int]) -> None:
        if not places:
            return self.clear()
        self._pick(self.cache, self.lengths, places)
        return self._measure([self.lengths[place] for place in places])

    def _forward(self, ids: Any, mask: Any, places: Any, cache: Any) -> "torch.Tensor":
        logits: torch.Tensor = self.model(
            input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=cache, **self.options
        ).logits
        return logits[:, -1]

    def _undo(self) -> None:
        """Leave out the column that some layers have already. Takes no memory."""
        for layer in self.cache.layers:
            layer.keys, layer.values = layer.keys[:, :, : self.width], layer.values[:, :, : self.width]

    def _measure(self, lengths: list[int]) -> None:
        """Note how long the rows are: what `step` needs of it."""
        import torch

        width = max(lengths)
        mask = _mask([width - length for length in lengths], width + MASK_AHEAD, self.device)
        self.next = torch.tensor(lengths, device=self.device).unsqueeze(-1)
        self.lengths, self.width, self.mask = lengths, width, mask

    def _pick(self, cache: Any, lengths: list[int], places: list[int]) -> None:
        """Leave in `cache` the rows at `places`, without the padding that they share."""
        import torch

        gap = max(lengths) - max(lengths[place] for place in places)
        if len(places) == len(lengths) and not gap:
            return
        index = torch.tensor(places, device=self.device)
        for layer in cache.layers:
            keys, values = layer.keys[:, :, gap:], layer.values[:, :, gap:]
            layer.put(keys.index_select(0, index), values.index_select(0, index))


def network(model: Any, pad: int) -> SequenceRunner:
    """Choose the way in which a model's rows run together and yet give what each would give alone."""
    if "dynamic" in rope_types(model):  # its frequencies stay as the row before has left them
        return Apart(model, most=1)
    return (ragged(model) or Joined(model, pad)) if joinable(model) else Apart(model)


def _mask(gaps: list[int], width: int, device: Any) -> "torch.Tensor":
    """1 where a token is, 0 in the gap before it: [rows, width]."""
    import torch

    return (torch.arange(width, device=device) >= torch.tensor(gaps, device=device).unsqueeze(-1)).long()


def _stack(old: "torch.Tensor", new: "torch.Tensor", width: int) -> "torch.Tensor":
    """Two layers' rows [rows, heads, length, size], padded on the left to `width`."""
    stacked = old.new_zeros(len(old) + len(new), old.shape[1], width, old.shape[3])
    stacked[: len(old), :, width - old.shape[2] :] = old
    stacked[len(old) :, :, width - new.shape[2] :] = new
    return stacked
