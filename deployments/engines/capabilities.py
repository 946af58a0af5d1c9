"""What a language model's forward pass takes, and whether its sequences can run together."""

import inspect
from typing import Any


def joinable(model: Any) -> bool:
    """Return whether a token's place in a pass, and the rows beside its own, change nothing for the model."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    kinds = {type(layer) for layer in DynamicCache(config=text_config(model)).layers}
    return (
        kinds <= {DynamicLayer, DynamicSlidingWindowLayer}
        and {"attention_mask", "position_ids", "past_key_values"} <= parameters(model)
        and not {"dynamic", "longrope"} & rope_types(model)  # the longest row changes the frequencies of all
        and not model.is_remote_code()
    )


def parameters(model: Any) -> set[str]:
    """Return the names of the parameters of the model's forward pass."""
    return {*inspect.signature(model.forward).parameters}


def pass_options(model: Any) -> dict[str, Any]:
    """Return options for every forward pass; the logits of a prompt's other tokens would fill the memory."""
    return {"use_cache": True} | ({"logits_to_keep": 1} if "logits_to_keep" in parameters(model) else {})


def text_config(model: Any) -> Any:
    """Return the config of the language model itself, where it is a part of another model."""
    return model.config.get_text_config(decoder=True)


def rope_types(model: Any) -> set[str]:
    """Return the kinds of rotary positions of all layers: one for all, or one for each kind of layer."""
    rope = getattr(text_config(model), "rope_parameters", None) or {}
    each = [rope, *(inner for inner in rope.values() if isinstance(inner, dict))]
    return {str(parameters.get("rope_type")) for parameters in each}
