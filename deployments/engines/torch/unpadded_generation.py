"""Running rows without padding: all their tokens one after another, and each row's keys and values apart.

A pass may read the prompts of some rows and the next tokens of others. On a processor, where what is not
padded is not computed; rows join and leave without a copy of what is there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from deployments.engines.torch.packed_encoder import TOLERANCE, register

if TYPE_CHECKING:
    import torch

NAME = "ragged"
AHEAD = 64  # tokens for which there is room at once
PROBE = ([9, 5, 7, 3], [8, 2], [4, 6, 1])


class Kept:
    """The keys and values of a row, `length` tokens of each layer: [2, 1, heads, room, size]."""

    def __init__(self) -> None:
        self.length = 0
        self.layers: dict[int, torch.Tensor] = {}

    def add(self, layer: int, new: "torch.Tensor") -> "Sequence[torch.Tensor]":
        """Write `new` [2, 1, heads, tokens, size] after the others; returns all keys, and all values."""
        size = new.shape[3]
        room = self.layers.get(layer)
        if room is None or self.length + size > room.shape[3]:
            room = self.layers[layer] = self._larger(room, new)
        room.narrow(3, self.length, size).copy_(new)
        return room.narrow(3, 0, self.length + size).unbind()

    def _larger(self, room: "torch.Tensor | None", new: "torch.Tensor") -> "torch.Tensor":
        larger = new.new_empty(*new.shape[:3], self.length + new.shape[3] + AHEAD, new.shape[4])
        if room is not None:
            larger[:, :, :, : self.length] = room[:, :, :, : self.length]
        return larger


class Ragged:
    """Rows in a cache each: a pass reads any number of tokens more in every one of them."""

    most: int | None = None
    pads, undoes = False, True
    kept: type[Any] = Kept  # what there is of each row

    def __init__(self, model: Any) -> None:
        self.model, self.device = model, model.device
        register(NAME, _attend, "causal_mask_function")
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self.rows: list[Any] = []

    def read(self, rows: Sequence[list[int]], beside: Sequence[int] = ()) -> tuple["torch.Tensor", list[Any]]:
        """As `Joined.read`; with a token `beside` for every running row, this is their step as well.

        Then the running rows' logits come first.
        """
        kept = [self.kept() for _ in rows]
        running = self.rows if beside else []
        return self._forward([*([token] for token in beside), *rows], [*running, *kept]), kept

    def join(self, read: list[Any], places: list[int]) -> None:
        """As `Joined.join`."""
        self.rows = self.rows + [read[place] for place in places]

    def step(self, tokens: list[int]) -> "torch.Tensor":
        """As `Joined.step`."""
        return self.read([], tokens)[0]

    def keep(self, places: list[int]) -> None:
        """As `Joined.keep`."""
        self.rows = [self.rows[place] for place in places]

    def _forward(self, rows: Sequence[list[int]], kept: list[Any]) -> "torch.Tensor":
        import torch

        sizes = [len(new) for new in rows]
        starts = [one.length for one in kept]
        positions = [torch.arange(start, start + size) for start, size in zip(starts, sizes, strict=True)]
        with _ragged_attention(self.model.config):
            logits: torch.Tensor = self.model(
                input_ids=torch.tensor([[id for new in rows for id in new]]),
                position_ids=torch.cat(positions).unsqueeze(0),
                attention_mask=torch.ones(1, sum(sizes), dtype=torch.long),
                use_cache=False,
                logits_to_keep=torch.tensor(sizes).cumsum(0) - 1,
                cu_seq_lens_q=(sizes, kept),
            ).logits
        for one, size in zip(kept, sizes, strict=True):
            one.length += size
        return logits[0]


def ragged(model: Any) -> Ragged | None:
    """The model's rows without padding, where it answers the same so; on a processor only."""
    import torch

    tolerance = TOLERANCE.get(str(model.dtype))
    if model.device.type != "cpu" or tolerance is None or model.config._attn_implementation != "sdpa":
        return None
    network = Ragged(model)
    with torch.inference_mode():
        try:
            return network if alike(network, model, PROBE, tolerance) else None
        except Exception:  # a network that was written otherwise
            return None


def alike(network: Ragged, model: Any, rows: Sequence[list[int]], tolerance: float) -> bool:
    """Whether logits are the model's own, in each kind of pass.

    Rows are read, all at once or one beside the last tokens of the others, and take a step.
    """
    import torch

    expected = torch.cat([model(torch.tensor([row])).logits[:, -1] for row in rows])
    _, read = network.read([row[:-1] for row in rows])
    network.join(read, list(range(len(rows))))
    stepped = network.step([row[-1] for row in rows])
    network.clear()
    first, *others = rows
    _, read = network.read([row[:-1] for row in others])
    network.join(read, list(range(len(others))))
    beside, _ = network.read([first], [row[-1] for row in others])
    network.clear()
    found = torch.stack([stepped, beside.roll(1, 0)])
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


@contextmanager
def _ragged_attention(config: Any) -> Iterator[None]:
    """For one pass: all else that is done with the model goes its usual way."""
    usual, config._attn_implementation = config._attn_implementation, NAME
    try:
        yield
    finally:
        config._attn_implementation = usual


def _attend(
    module: Any,
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    attention_mask: "torch.Tensor | None",
    *,
    cu_seq_lens_q: tuple[list[int], list[Kept]],
    scaling: float | None = None,
    dropout: float = 0.0,
    position_ids: Any = None,
    **others: Any,
) -> tuple["torch.Tensor", None]:
    """Each row's attention to itself: of (1, heads, tokens, size), a (1, tokens, heads, size)."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    if attention_mask is not None or any(others.values()):
        raise NotImplementedError("attention with more to it")
    sizes, kept = cu_seq_lens_q
    many = query.shape[1] != key.shape[1]
    parts = zip(
        sizes,
        kept,
        torch.split(query, sizes, 2),
        torch.split(torch.stack([key, value]), sizes, 3),
        strict=True,
    )
    seen = []
    for size, one, q, new in parts:
        keys, values = one.add(module.layer_idx, new)
        seen.append(
            scaled_dot_product_attention(q, keys, values, scale=scaling, is_causal=size > 1, enable_gqa=many)
        )
    return torch.cat(seen, 2).transpose(1, 2), None
