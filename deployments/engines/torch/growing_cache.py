"""A cache with reserved space: a step writes one column, while transformers' cache copies all columns."""

from functools import cache
from typing import Any

RESERVED_COLUMNS = 64


def growing_cache() -> Any:
    """Return an empty cache of `transformers`, whose layers' `keys` and `values` are replaceable."""
    from transformers import Cache

    return Cache(layer_class_to_replicate=_layer_class())


@cache
def _layer_class() -> Any:
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not followed
        keys: Any
        values: Any
        keys_buffer: Any = None
        values_buffer: Any = None

        def update(self, keys: Any, values: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(keys, values)
            self.keys, self.keys_buffer = _append(self.keys, self.keys_buffer, keys)
            self.values, self.values_buffer = _append(self.values, self.values_buffer, values)
            return self.keys, self.values

        def replace(self, keys: Any, values: Any) -> None:
            """Replace the keys and values, and free the buffers of the previous ones."""
            self.keys, self.values = keys, values
            self.keys_buffer = self.values_buffer = None

    return GrowingLayer


def _append(old: Any, buffer: Any, new: Any) -> tuple[Any, Any]:
    """Return `old` followed by `new`, [sequences, heads, length, size], and the buffer that has both."""
    start = old.shape[-2] if old.numel() else 0
    end = start + new.shape[-2]
    if buffer is None or old.data_ptr() != buffer.data_ptr() or end > buffer.shape[-2]:
        buffer = new.new_empty(*new.shape[:2], end + RESERVED_COLUMNS, new.shape[-1])
        if start:
            buffer[:, :, :start] = old
    buffer[:, :, start:end] = new
    return buffer[:, :, :end], buffer
