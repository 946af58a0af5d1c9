"""The options of a language model's forward pass, and whether its sequences can run in one batch."""

import inspect
from typing import Any


def supports_batching(model: Any) -> bool:
    """Return whether neither padding nor batch neighbours change a sequence's logits."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    layer_types = {type(layer) for layer in DynamicCache(config=text_config(model)).layers}
    return (
        layer_types <= {DynamicLayer, DynamicSlidingWindowLayer}
        and {"attention_mask", "position_ids", "past_key_values"} <= forward_parameters(model)
        and not {"dynamic", "longrope"} & rope_types(model)  # the longest sequence sets all frequencies
        and not model.is_remote_code()
    )


def forward_parameters(model: Any) -> set[str]:
    """Return the names of the parameters of the model's forward pass."""
    return {*inspect.signature(model.forward).parameters}


def forward_options(model: Any) -> dict[str, Any]:
    """Return the options of every forward pass; logits of all prompt tokens would fill the memory."""
    last_only = {"logits_to_keep": 1} if "logits_to_keep" in forward_parameters(model) else {}
    return {"use_cache": True} | last_only


def text_config(model: Any) -> Any:
    """Return the config of the language model itself, which may be part of another model."""
    return model.config.get_text_config(decoder=True)


def rope_types(model: Any) -> set[str]:
    """Return the types of rotary position embeddings of all layers; a model has one, or one a layer type."""
    rope = getattr(text_config(model), "rope_parameters", None) or {}
    all_parameters = [rope, *(inner for inner in rope.values() if isinstance(inner, dict))]
    return {str(parameters.get("rope_type")) for parameters in all_parameters}
