"""What a model's folder holds beside its `config.yml`: a checkpoint, nothing, or what is no model."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx"}
ADAPTER = "adapter_config.json"
DESCRIPTIONS = ("config.json", "modules.json")  # of a network, of a sentence-transformers model


def has_checkpoint(folder: Path) -> bool:
    """Return whether the folder holds a checkpoint. A broken link counts, and fails when it loads."""
    return any(os.path.lexists(folder / name) for name in DESCRIPTIONS)


def problem_with(folder: Path, names_model: bool) -> str | None:
    """Return why the folder's content cannot be served, or None.

    `names_model`: the config names another checkpoint, so the folder needs none.
    """
    if os.path.lexists(folder / ADAPTER):
        return (
            f"{ADAPTER} is a part of an adapter, and adapters are not applied; merge it into its base model "
            "(peft: `merge_and_unload`), and save the result here"
        )
    if names_model or has_checkpoint(folder):
        return None
    if (weights := next(_weights(folder), None)) is None:
        return None
    if weights.suffix == ".gguf":
        return f"{weights.name} is a GGUF file, which is not supported; save the model with `save_pretrained`"
    place = weights.parent
    if place != folder and has_checkpoint(place):
        return f"the checkpoint is in a subfolder; set `hf_model: {place.relative_to(folder)}`"
    return f"{weights.relative_to(folder)} has weights, and no config.json beside it says of which network"


def _weights(folder: Path) -> Iterator[Path]:
    """Yield the files with weights in the folder and its subfolders."""
    with suppress(OSError):  # a part of the folder is unreadable, and fails when the model loads
        for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
            yield from sorted(path for path in place.iterdir() if path.suffix in WEIGHTS)
