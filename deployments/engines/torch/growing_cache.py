"""A cache with room ahead: a step writes one column, where transformers' own copies all that is there."""

from functools import cache
from typing import Any

AHEAD = 64  # columns


def growing_cache() -> Any:
    """An empty cache of `transformers`, whose layers' `keys` and `values` may be replaced at any time."""
    from transformers import Cache

    return Cache(layer_class_to_replicate=_layer())


@cache
def _layer() -> Any:
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not followed
        keys: Any
        values: Any
        keys_room: Any = None
        values_room: Any = None

        def update(self, keys: Any, values: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(keys, values)
            self.keys, self.keys_room = _grown(self.keys, self.keys_room, keys)
            self.values, self.values_room = _grown(self.values, self.values_room, values)
            return self.keys, self.values

        def put(self, keys: Any, values: Any) -> None:
            """Hold these in the place of the others, whose room is free at once."""
            self.keys, self.values = keys, values
            self.keys_room = self.values_room = None

    return GrowingLayer


def _grown(seen: Any, room: Any, new: Any) -> tuple[Any, Any]:
    """What was `seen` and what is `new`, [rows, heads, length, size], and the room that both are in."""
    start = seen.shape[-2] if seen.numel() else 0
    end = start + new.shape[-2]
    if room is None or seen.data_ptr() != room.data_ptr() or end > room.shape[-2]:
        room = new.new_empty(*new.shape[:2], end + AHEAD, new.shape[-1])
        if start:
            room[:, :, :start] = seen
    room[:, :, start:end] = new
    return room[:, :, :end], room
