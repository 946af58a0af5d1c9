"""The configuration of a sentence-transformers model: its prompts, its pooling and the layers after that.

Its modules.json lists the parts of the model in order; each part has a folder with a config.json. A part or a
key that changes the vectors is either read here or refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deployments.engines.checkpoint import Checkpoint
from deployments.errors import ModelNotReady
from deployments.pipelines.pooling import poolings_of
from deployments.pipelines.similarity import SIMILARITIES, normalize

if TYPE_CHECKING:
    import torch

ARCHITECTURES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
TRANSFORMER_CONFIGS = tuple(f"sentence_{name}_config.json" for name in ARCHITECTURES)
# Keys of them with the values that need no support; of others, only empty values.
DEFAULTS: dict[str, Any] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
}
READ = {"max_seq_length", "do_lower_case", "modality_config", "unpad_inputs"}
Layer = Callable[["torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True)
class SentenceConfig:
    """What sentence-transformers does around a network; by default that of a checkpoint without its files.

    `layers` follow the pooling, and `normalize` says whether the last of them is a normalization, which
    `layers` then lacks. `size` is that of the vectors, or None for the network's.
    """

    subfolder: str = ""
    poolings: tuple[str, ...] = ("mean",)
    pools_prompt: bool = True
    layers: list[Layer] = field(default_factory=list)
    size: int | None = None
    normalize: bool = False
    lowercase: bool = False
    max_length: int | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str = "cosine"


def read_sentence_config(checkpoint: Checkpoint) -> SentenceConfig:
    """Read all files of a sentence-transformers model. Raises `ModelNotReady` for what is not supported."""
    modules = checkpoint.json("modules.json")
    if not modules:
        return SentenceConfig()
    (first, path), *parts = [(module["type"].rpartition(".")[2], module["path"]) for module in modules]
    if first != "Transformer" or not parts or parts[0][0] != "Pooling":
        names = ", ".join([first, *(name for name, _ in parts)])
        raise _refusal(checkpoint, f"is made of {names}; supported is a Transformer, then a Pooling")
    pooling, *layers = parts
    pooling_config = checkpoint.json(f"{pooling[1]}/config.json") or {}
    normalize = bool(layers) and layers[-1][0] == "Normalize"
    loaded = [
        LAYERS[name](checkpoint, path)
        for name, path in _supported(checkpoint, layers[: len(layers) - normalize])
    ]
    sizes = [size for _, size in loaded if size]
    return SentenceConfig(
        subfolder=path,
        poolings=poolings_of(pooling_config),
        pools_prompt=pooling_config.get("include_prompt", True),
        layers=[layer for layer, _ in loaded],
        size=sizes[-1] if sizes else None,
        normalize=normalize,
        **_transformer_settings(checkpoint, path),
        **_model_settings(checkpoint),
    )


def _supported(checkpoint: Checkpoint, layers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if unsupported := sorted({name for name, _ in layers} - LAYERS.keys()):
        raise _refusal(checkpoint, f"has layers that are not supported: {unsupported}")
    return layers


def _transformer_settings(checkpoint: Checkpoint, path: str) -> dict[str, Any]:
    """Return the settings of the first of the seven files that exists."""
    prefix = f"{path}/" if path else ""
    config: dict[str, Any] = next(
        filter(None, (checkpoint.json(prefix + name) for name in TRANSFORMER_CONFIGS)), {}
    )
    for key, value in config.items():
        if key not in READ and value and value != DEFAULTS.get(key):
            raise _refusal(
                checkpoint, f"has `{key}`: {value!r} in its Transformer's config, which is not supported"
            )
    modalities = config.get("modality_config") or {"text": {}}
    if modalities.get("text", {}).get("method", "forward") != "forward":
        raise _refusal(checkpoint, "reads texts in a way that is not supported (`modality_config`)")
    return {"max_length": config.get("max_seq_length"), "lowercase": bool(config.get("do_lower_case"))}


def _model_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    config = checkpoint.json("config_sentence_transformers.json") or {}
    if (kind := config.get("model_type", "SentenceTransformer")) != "SentenceTransformer":
        raise _refusal(checkpoint, f"is a {kind} of sentence-transformers, not an encoder of single texts")
    if (similarity := config.get("similarity_fn_name") or "cosine") not in SIMILARITIES:
        raise _refusal(checkpoint, f"compares by {similarity!r}, which is not supported")
    prompts = {name: prompt or "" for name, prompt in (config.get("prompts") or {}).items()}
    default = config.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise _refusal(checkpoint, f"has no prompt {default!r}, which is its default")
    return {"prompts": prompts, "default_prompt": default, "similarity": similarity}


def _dense(checkpoint: Checkpoint, path: str) -> tuple[Layer, int]:
    import torch

    config = checkpoint.json(f"{path}/config.json") or {}
    source = config.get("module_input_name", "sentence_embedding")
    if source != "sentence_embedding" or config.get("module_output_name") not in (None, source):
        raise _refusal(checkpoint, f"has a Dense layer of {source!r}, which is not supported")
    if config.get("use_residual"):
        raise _refusal(checkpoint, "has a Dense layer with a residual, which is not supported")
    activation = _activation(checkpoint, config.get("activation_function", "torch.nn.Tanh"))
    size = int(config["out_features"])
    linear = torch.nn.Linear(config["in_features"], size, bias=config.get("bias", True))
    _fill(checkpoint, linear, path, "linear.")
    return torch.nn.Sequential(linear, activation), size


def _activation(checkpoint: Checkpoint, path: str) -> Any:
    """Return an activation of torch by its full name ("torch.nn.modules.activation.Tanh")."""
    import torch

    found = getattr(torch.nn, path.rpartition(".")[2], None) if path.startswith("torch.nn.") else None
    if not (isinstance(found, type) and issubclass(found, torch.nn.Module)):
        raise _refusal(checkpoint, f"has a Dense layer with the activation {path!r}, which is not supported")
    return found()


def _layer_norm(checkpoint: Checkpoint, path: str) -> tuple[Layer, None]:
    import torch

    norm = torch.nn.LayerNorm((checkpoint.json(f"{path}/config.json") or {})["dimension"])
    _fill(checkpoint, norm, path, "norm.")
    return norm, None


def _fill(checkpoint: Checkpoint, layer: Any, path: str, prefix: str) -> None:
    tensors = {name.removeprefix(prefix): tensor.float() for name, tensor in checkpoint.tensors(path).items()}
    try:
        layer.load_state_dict(tensors)
    except RuntimeError as error:
        raise _refusal(checkpoint, f"has weights in {path}/ that do not fit its config") from error
    layer.requires_grad_(False)


def _normalize(checkpoint: Checkpoint, path: str) -> tuple[Layer, None]:
    return normalize, None


def _dropout(checkpoint: Checkpoint, path: str) -> tuple[Layer, None]:
    return lambda vectors: vectors, None  # it has an effect in training only


LAYERS: dict[str, Callable[[Checkpoint, str], tuple[Layer, int | None]]] = {
    "Dense": _dense,
    "LayerNorm": _layer_norm,
    "Normalize": _normalize,
    "Dropout": _dropout,
}


def _refusal(checkpoint: Checkpoint, problem: str) -> ModelNotReady:
    return ModelNotReady(f"{checkpoint.name!r} {problem}")
