"""Roster's attention functions in transformers' networks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def register_attention(name: str, attend: Callable[..., Any], *, causal: bool) -> None:
    """Register an attention function with transformers, together with the mask it takes: none.

    A token then attends to its whole text or, if `causal`, to the text up to itself. A network that needs
    another mask raises `NotImplementedError`: transformers' flags say when plain attention needs no mask.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    needs_no_mask = "allow_is_causal_skip" if causal else "allow_is_bidirectional_skip"

    def mask(*, local_size: int | None = None, **options: Any) -> None:
        if local_size is not None or not options.get(needs_no_mask):
            raise NotImplementedError("its attention needs a mask")

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, mask)


def attention_implementation(model: Any) -> str | None:
    """Return the name of the model's attention function; transformers has no public getter."""
    name: str | None = model.config._attn_implementation
    return name


@contextmanager
def attention_override(name: str, model: Any) -> Iterator[None]:
    """Use another attention function inside the context.

    The public `set_attn_implementation` visits every module of the network, which is too slow for each pass.
    """
    config = model.config
    original, config._attn_implementation = config._attn_implementation, name
    try:
        yield
    finally:
        config._attn_implementation = original
