"""Generation in torch with one padded cache, and the choice among torch's runners."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deployments.engines.capabilities import forward_options, rope_types, supports_batching
from deployments.engines.equivalence import PROMPTS, prefill_then_decode, relative_error
from deployments.engines.load_failures import cannot_run
from deployments.engines.torch.growing_cache import growing_cache
from deployments.engines.torch.sequential_generation import SequentialRunner
from deployments.engines.torch.unpadded_generation import try_unpadded_runner
from deployments.generation.sequence_runner import SequenceRunner

if TYPE_CHECKING:
    import torch

SAME_PASS = 1e-5  # the relative error of a pass that is repeated
RESERVED_MASK_COLUMNS = 64  # columns of the attention mask that are created in advance


class PaddedRunner:
    """Runs sequences in one cache, padded on the left: a step is one forward pass for all of them.

    Layers with a sliding window cache the whole sequence, as other layers do; their mask cuts the window out.
    """

    max_sequences = prefill_and_decode = None
    pads = can_roll_back = True

    def __init__(self, model: Any, pad_token_id: int) -> None:
        self.model, self.pad_token_id, self.device = model, pad_token_id, model.device
        self.options = forward_options(model)
        self.clear()

    def clear(self) -> None:
        self.lengths: list[int] = []
        self.width = 0
        self.cache: Any = None
        self.mask: Any = None
        self.positions: Any = None

    def prefill(self, prompts: Sequence[list[int]]) -> tuple["torch.Tensor", Any]:
        import torch

        longest = max(map(len, prompts))
        padding = [longest - len(prompt) for prompt in prompts]
        ids = [[self.pad_token_id] * pad + prompt for pad, prompt in zip(padding, prompts, strict=True)]
        mask = _mask(padding, longest, self.device)
        cache = growing_cache()
        positions = (mask.cumsum(-1) - 1).clamp_min_(0)
        logits = self._forward(torch.tensor(ids, device=self.device), mask, positions, cache)
        return logits, (cache, [len(prompt) for prompt in prompts])

    def append(self, caches: Any, indices: list[int]) -> None:
        cache, lengths = caches
        self._select(cache, lengths, indices)
        lengths = [lengths[index] for index in indices]
        if self.lengths:
            width = max(*self.lengths, *lengths)
            stacked = [
                (old, _stack(old.keys, new.keys, width), _stack(old.values, new.values, width))
                for old, new in zip(self.cache.layers, cache.layers, strict=True)
            ]
            self._set_lengths(self.lengths + lengths)
            for layer, keys, values in stacked:
                layer.replace(keys, values)
        else:
            self._set_lengths(lengths)
            self.cache = cache

    def decode(self, tokens: list[int]) -> "torch.Tensor":
        import torch

        if self.width == self.mask.shape[-1]:
            self._set_lengths(self.lengths)
        ids = torch.tensor(tokens, device=self.device).unsqueeze(-1)
        try:
            logits = self._forward(ids, self.mask[:, : self.width + 1], self.positions, self.cache)
            self.positions = self.positions + 1
        except Exception:
            self._roll_back()
            raise
        self.width += 1
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    def select(self, indices: list[int]) -> None:
        if not indices:
            return self.clear()
        self._select(self.cache, self.lengths, indices)
        return self._set_lengths([self.lengths[index] for index in indices])

    def _forward(self, ids: Any, mask: Any, positions: Any, cache: Any) -> "torch.Tensor":
        logits: torch.Tensor = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, **self.options
        ).logits
        return logits[:, -1]

    def _roll_back(self) -> None:
        """Remove the column that some layers have appended already. Allocates no memory."""
        for layer in self.cache.layers:
            layer.keys, layer.values = layer.keys[:, :, : self.width], layer.values[:, :, : self.width]

    def _set_lengths(self, lengths: list[int]) -> None:
        """Set the lengths of the running sequences, and the mask and positions that `decode` needs."""
        import torch

        width = max(lengths)
        padding = [width - length for length in lengths]
        mask = _mask(padding, width + RESERVED_MASK_COLUMNS, self.device)
        self.positions = torch.tensor(lengths, device=self.device).unsqueeze(-1)
        self.lengths, self.width, self.mask = lengths, width, mask

    def _select(self, cache: Any, lengths: list[int], indices: list[int]) -> None:
        """Keep the sequences at `indices` in `cache`, without the padding that they share."""
        import torch

        padding = max(lengths) - max(lengths[index] for index in indices)
        if len(indices) == len(lengths) and not padding:
            return
        index = torch.tensor(indices, device=self.device)
        for layer in cache.layers:
            keys, values = layer.keys[:, :, padding:], layer.values[:, :, padding:]
            layer.replace(keys.index_select(0, index), values.index_select(0, index))


def create_runner(model: Any, pad_token_id: int) -> SequenceRunner:
    """Create the fastest runner that gives each sequence of the model the logits that it has alone.

    Raises `ModelNotReady` if the network cannot run a prompt at all, as some cannot in half precision.
    """
    import torch

    runner = _choose_runner(model, pad_token_id)
    with torch.inference_mode():
        try:
            alone = torch.cat([prefill_then_decode(runner, [prompt]) for prompt in PROMPTS])
        except Exception as error:
            raise cannot_run(model, error) from error
        if isinstance(runner, SequentialRunner) and not _separates_sequences(runner, alone):
            runner.max_sequences = 1
    return runner


def _choose_runner(model: Any, pad_token_id: int) -> SequenceRunner:
    if "dynamic" in rope_types(model):  # each sequence changes the frequencies for the next one
        return SequentialRunner(model, max_sequences=1)
    if not supports_batching(model):
        return SequentialRunner(model)
    return try_unpadded_runner(model) or PaddedRunner(model, pad_token_id)


def _separates_sequences(runner: SequentialRunner, alone: "torch.Tensor") -> bool:
    """Return whether sequences that run in turn get the logits that each has `alone`.

    Some networks keep the state of their sequence in themselves, as RecurrentGemma does.
    """
    return relative_error(prefill_then_decode(runner, PROMPTS), alone) <= SAME_PASS


def _mask(padding: list[int], width: int, device: Any) -> "torch.Tensor":
    """Return a mask [sequences, width]: 0 for padding on the left, 1 for tokens."""
    import torch

    return (torch.arange(width, device=device) >= torch.tensor(padding, device=device).unsqueeze(-1)).long()


def _stack(old: "torch.Tensor", new: "torch.Tensor", width: int) -> "torch.Tensor":
    """Concatenate keys or values [sequences, heads, length, size], padded on the left to `width`."""
    stacked = old.new_zeros(len(old) + len(new), old.shape[1], width, old.shape[3])
    stacked[: len(old), :, width - old.shape[2] :] = old
    stacked[len(old) :, :, width - new.shape[2] :] = new
    return stacked
