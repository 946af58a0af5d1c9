"""The forward passes of running rows: all in one cache that rows join and leave, or each in its own.

`Ragged` is a third way, and quicker on a processor; `PagedRows` is the same in OpenVINO.
"""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deployments.engines.torch.growing_cache import growing_cache
from deployments.engines.torch.unpadded_generation import Ragged, ragged

if TYPE_CHECKING:
    import torch

MASK_AHEAD = 64  # columns of the attention mask that are made in advance


class Joined:
    """Rows in one cache, padded on the left: a step is one forward pass for all of them.

    Layers with a sliding window keep all of it, as the others do; their mask cuts the window out.
    """

    most: int | None = None
    pads = undoes = True

    def __init__(self, model: Any, pad: int) -> None:
        self.model, self.pad, self.device = model, pad, model.device
        self.options = _options(model)
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self.lengths: list[int] = []
        self.width = 0
        self.cache: Any = None
        self.mask: Any = None
        self.next: Any = None

    def read(self, rows: Sequence[list[int]]) -> tuple["torch.Tensor", Any]:
        """Read token ids: the logits [rows, vocabulary] after each row, and what `join` takes."""
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
        """Take those of the rows just read that are at `places`, after the others. Raises, or changes all."""
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
        """Read one token more in every row: the logits [rows, vocabulary] after it.

        A step that fails leaves the rows as they were, in a network that `undoes` it.
        """
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
        """Go on with the rows at `places` only."""
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


class Apart:
    """Rows each in a cache of its own kind: a step is a forward pass for every one of them.

    For models whose caches cannot be joined; each row goes as `generate` would go with it alone. `most` is
    how many may run at once.
    """

    pads = undoes = False

    def __init__(self, model: Any, most: int | None = None) -> None:
        self.model, self.most, self.device = model, most, model.device
        self.options = _options(model)
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self.rows: list[tuple[torch.Tensor, dict[str, Any]]] = []

    def read(self, rows: Sequence[list[int]]) -> tuple["torch.Tensor", Any]:
        """As `Joined.read`."""
        import torch

        begun = [self._begin(torch.tensor([row], device=self.device)) for row in rows]
        return torch.cat([logits for logits, _ in begun]), [row for _, row in begun]

    def join(self, read: Any, places: list[int]) -> None:
        """As `Joined.join`."""
        self.rows = self.rows + [read[place] for place in places]

    def step(self, tokens: list[int]) -> "torch.Tensor":
        """As `Joined.step`."""
        import torch

        stepped = []
        for place, ((ids, state), token) in enumerate(zip(self.rows, tokens, strict=True)):
            ids = torch.cat([ids, ids.new_tensor([[token]])], -1)
            logits, self.rows[place] = self._forward(ids, state, next_sequence_length=1)
            stepped.append(logits)
        return torch.cat(stepped)

    def keep(self, places: list[int]) -> None:
        """As `Joined.keep`."""
        self.rows = [self.rows[place] for place in places]

    def _begin(self, ids: "torch.Tensor") -> tuple["torch.Tensor", Any]:
        import torch

        state = dict(self.options)
        if "position_ids" in _takes(self.model):
            state["position_ids"] = torch.arange(ids.shape[-1], device=self.device).unsqueeze(0)
        return self._forward(ids, state, is_first_iteration=True)

    def _forward(self, ids: "torch.Tensor", state: dict[str, Any], **now: Any) -> tuple["torch.Tensor", Any]:
        inputs = self.model.prepare_inputs_for_generation(ids, **now, **state)
        told = self.model(**inputs, return_dict=True)
        return told.logits[:, -1], (ids, self.model._update_model_kwargs_for_generation(told, state))


def network(model: Any, pad: int) -> Joined | Apart | Ragged:
    """The way in which a model's rows run together and yet give what each would give alone."""
    if "dynamic" in _rope_types(model):  # its frequencies stay as the row before has left them
        return Apart(model, most=1)
    return (ragged(model) or Joined(model, pad)) if joinable(model) else Apart(model)


def joinable(model: Any) -> bool:
    """Whether a token's place in a pass, and the rows beside its own, change nothing for the model."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    kinds = {type(layer) for layer in DynamicCache(config=_text_config(model)).layers}
    return (
        kinds <= {DynamicLayer, DynamicSlidingWindowLayer}
        and {"attention_mask", "position_ids", "past_key_values"} <= _takes(model)
        and not {"dynamic", "longrope"} & _rope_types(model)  # the longest row changes the frequencies of all
        and not model.is_remote_code()
    )


def _takes(model: Any) -> set[str]:
    return {*inspect.signature(model.forward).parameters}


def _options(model: Any) -> dict[str, Any]:
    """To every forward pass; the logits of a prompt's other tokens would fill the memory."""
    return {"use_cache": True} | ({"logits_to_keep": 1} if "logits_to_keep" in _takes(model) else {})


def _text_config(model: Any) -> Any:
    return model.config.get_text_config(decoder=True)


def _rope_types(model: Any) -> set[str]:
    """Of all layers: some configs have one set of parameters, some one for each kind of layer."""
    told = getattr(_text_config(model), "rope_parameters", None) or {}
    each = [told, *(inner for inner in told.values() if isinstance(inner, dict))]
    return {str(parameters.get("rope_type")) for parameters in each}


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
