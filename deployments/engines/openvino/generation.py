"""Running rows in OpenVINO: their keys and values lie in blocks of one pool, and nothing is padded."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deployments.engines.capabilities import joinable, text_config
from deployments.engines.equivalence import ROWS, require_same, rows_difference
from deployments.engines.openvino.network import Paged, Piece, checked
from deployments.engines.unpadded_rows import UnpaddedRows

if TYPE_CHECKING:
    import torch

LONG = 100  # tokens: more than a block, and than the windows that some networks see


class InBlocks:
    """Of a row's keys and values `length` tokens, and where they are."""

    def __init__(self) -> None:
        self.length = 0
        self.blocks: list[int] = []


class PagedRows(UnpaddedRows):
    """Runs rows in a compiled network: blocks are free unless a row among `rows` has them.

    So rows that were read join before the next pass, or not at all.
    """

    kept = InBlocks

    def __init__(self, model: Any) -> None:
        import torch

        if not joinable(model):
            raise NotImplementedError("its answers do not run together")
        super().__init__(model)
        row = torch.arange(6).unsqueeze(0)
        layers = text_config(model).num_hidden_layers
        self.network = Paged(model, _logits, [row, row, torch.tensor([2, 5])], layers)

    def clear(self) -> None:
        super().clear()
        self.network.release()

    def _forward(self, rows: Sequence[list[int]], kept: list[Any]) -> "torch.Tensor":
        import numpy as np

        self._make_room([one.length + len(new) for one, new in zip(kept, rows, strict=True)], kept)
        pieces = [Piece(one.length, len(new), one.blocks) for one, new in zip(kept, rows, strict=True)]
        ids = [id for new in rows for id in new]
        positions = [place for past, size, _ in pieces for place in range(past, past + size)]
        ends = np.cumsum([piece.size for piece in pieces]) - 1
        [logits] = self.network([np.array([ids]), np.array([positions]), ends], pieces)
        for one, new in zip(kept, rows, strict=True):
            one.length += len(new)
        return logits

    def _make_room(self, lengths: list[int], kept: list[InBlocks]) -> None:
        """Give rows the blocks that they lack for so many tokens each."""
        lacks = [
            -(-length // self.network.block_size) - len(one.blocks)
            for length, one in zip(lengths, kept, strict=True)
        ]
        if not any(lacks):
            return
        used = {block for one in (*self.rows, *kept) for block in one.blocks}
        self.network.reserve(len(used) + sum(lacks))
        free = iter(block for block in range(self.network.blocks) if block not in used)
        for one, lack in zip(kept, lacks, strict=True):
            one.blocks += [next(free) for _ in range(lack)]


def paged(model: Any, _: int) -> PagedRows:
    """Run the model's rows in OpenVINO. Raises `ModelNotReady` where it cannot run them as torch does."""

    def make(tolerance: float) -> PagedRows:
        runner = PagedRows(model)
        for rows in (ROWS, _long(model)):
            require_same(rows_difference(runner, model, rows), tolerance)
        return runner

    return checked(model, make)


def _long(model: Any) -> list[list[int]]:
    """Rows as long as `LONG`, or as the model has positions."""
    most = getattr(text_config(model), "max_position_embeddings", None) or LONG
    return [[1 + place % 9 for place in range(max(min(most, LONG) - less, 2))] for less in (0, 1, 40)]


def _logits(network: Any, ids: Any, positions: Any, ends: Any, **pages: Any) -> tuple["torch.Tensor"]:
    """The logits [rows, vocabulary] after the tokens at `ends`."""
    import torch

    told = network(
        input_ids=ids,
        position_ids=positions,
        attention_mask=torch.ones_like(ids),
        use_cache=False,
        logits_to_keep=ends,
        **pages,
    )
    return (told.logits.squeeze(0),)
