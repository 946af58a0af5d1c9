"""Generation in OpenVINO without padding: the sequences' keys and values are in blocks of one pool."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deployments.engines.capabilities import supports_batching, text_config
from deployments.engines.equivalence import PROMPTS, check_against_torch
from deployments.engines.openvino.network import PagedNetwork, Subsequence, check_compiled
from deployments.engines.unpadded_runner import BaseUnpaddedRunner

if TYPE_CHECKING:
    import torch

LONG_PROMPT = 100  # tokens; more than a block, and than the attention windows of some networks


class BlockTable:
    """The blocks that have the keys and values of `length` tokens of a sequence."""

    def __init__(self) -> None:
        self.length = 0
        self.blocks: list[int] = []


class PagedRunner(BaseUnpaddedRunner):
    """Runs sequences in a compiled network; a block is free unless a sequence in `caches` uses it.

    So a prefilled sequence must be appended before the next pass, or its blocks are overwritten.
    """

    cache_type = BlockTable

    def __init__(self, model: Any) -> None:
        import torch

        if not supports_batching(model):
            raise NotImplementedError("its sequences cannot run in one batch")
        super().__init__(model)
        example = torch.arange(6).unsqueeze(0)
        layers = text_config(model).num_hidden_layers
        self.network = PagedNetwork(model, _logits, [example, example, torch.tensor([2, 5])], layers)

    def clear(self) -> None:
        super().clear()
        self.network.release()

    def _forward(self, new_tokens: Sequence[list[int]], caches: list[Any]) -> "torch.Tensor":
        import numpy as np

        pairs = list(zip(caches, new_tokens, strict=True))
        self._allocate([table.length + len(tokens) for table, tokens in pairs], caches)
        subsequences = [Subsequence(table.length, len(tokens), table.blocks) for table, tokens in pairs]
        ids = [id for tokens in new_tokens for id in tokens]
        positions = [position for past, size, _ in subsequences for position in range(past, past + size)]
        last_indices = np.cumsum([subsequence.size for subsequence in subsequences]) - 1
        [logits] = self.network([np.array([ids]), np.array([positions]), last_indices], subsequences)
        for table, tokens in pairs:
            table.length += len(tokens)
        return logits

    def _allocate(self, lengths: list[int], tables: list[BlockTable]) -> None:
        """Add the blocks that the sequences need for these lengths in tokens."""
        missing = [
            -(-length // self.network.block_size) - len(table.blocks)
            for length, table in zip(lengths, tables, strict=True)
        ]
        if not any(missing):
            return
        used = {block for table in (*self.caches, *tables) for block in table.blocks}
        self.network.reserve(len(used) + sum(missing))
        free = iter(block for block in range(self.network.blocks) if block not in used)
        for table, count in zip(tables, missing, strict=True):
            table.blocks += [next(free) for _ in range(count)]


def create_runner(model: Any, _: int) -> PagedRunner:
    """Create a runner for the model. Raises `ModelNotReady` if OpenVINO cannot run it as torch does."""

    def create(tolerance: float) -> PagedRunner:
        runner = PagedRunner(model)
        for prompts in (PROMPTS, _long_prompts(model)):
            check_against_torch(runner, model, tolerance, prompts)
        return runner

    return check_compiled(model, create)


def _long_prompts(model: Any) -> list[list[int]]:
    """Return prompts as long as `LONG_PROMPT`, or as the model's number of positions allows."""
    limit = getattr(text_config(model), "max_position_embeddings", None) or LONG_PROMPT
    lengths = [max(min(limit, LONG_PROMPT) - fewer, 2) for fewer in (0, 1, 40)]
    return [[1 + position % 9 for position in range(length)] for length in lengths]


def _logits(
    network: Any, ids: Any, positions: Any, last_indices: Any, **kwargs: Any
) -> tuple["torch.Tensor"]:
    """Return the logits [sequences, vocabulary] after the tokens at `last_indices`."""
    import torch

    outputs = network(
        input_ids=ids,
        position_ids=positions,
        attention_mask=torch.ones_like(ids),
        use_cache=False,
        logits_to_keep=last_indices,
        **kwargs,
    )
    return (outputs.logits.squeeze(0),)
