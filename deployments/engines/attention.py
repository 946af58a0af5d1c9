"""Attention functions of Roster's own in transformers' networks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def register(name: str, attend: Callable[..., Any], *, causal: bool) -> None:
    """Register an attention function with transformers, and the mask that it takes: none.

    So every token sees its whole text or, if `causal`, the text up to itself. A network that wants another
    mask raises `NotImplementedError`: transformers says by these flags when plain attention needs no mask.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    needs_no_mask = "allow_is_causal_skip" if causal else "allow_is_bidirectional_skip"

    def mask(*, local_size: int | None = None, **options: Any) -> None:
        if local_size is not None or not options.get(needs_no_mask):
            raise NotImplementedError("tokens that see more, or less")

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, mask)


def implementation(model: Any) -> str | None:
    """Return the name of the attention function that the model uses; transformers has no public getter."""
    name: str | None = model.config._attn_implementation
    return name


@contextmanager
def used_for_one_pass(name: str, model: Any) -> Iterator[None]:
    """Use another attention function inside the context.

    The public `set_attn_implementation` visits every module of the network, which is too slow for each pass.
    """
    config = model.config
    usual, config._attn_implementation = config._attn_implementation, name
    try:
        yield
    finally:
        config._attn_implementation = usual
