"""Why a checkpoint does not load: from the types of exceptions, and from the checkpoint's files."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

NO_CONFIG = "is no checkpoint: it has no config.json that names a `model_type`"
OWN_CODE = "brings its own Python code; `trust_remote_code: true` in config.yml runs it"
PICKLED = "has no safetensors weights; `allow_pickle: true` in config.yml lets pickled ones in"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")

# The file that an auto class reads, where it is not config.json, and what is wrong if nothing else is known.
PARTS = {
    "AutoTokenizer": ("tokenizer_config.json", "has no tokenizer that can be read"),
    "AutoImageProcessor": ("preprocessor_config.json", "has no preprocessor_config.json that can be read"),
}

# What only a message tells: `_BaseAutoModelClass.from_pretrained` and `from_config` in transformers'
# models/auto/auto_factory.py raise a plain ValueError, and the mapping that they look into is private.
MESSAGES = {"Unrecognized configuration class": "is of an architecture that does not perform this task"}


class Load(NamedTuple):
    """What was to be loaded: an auto class by its name, and whether that takes safetensors weights.

    `fetch` returns the path of one of the checkpoint's files, or raises the Hub's `EntryNotFoundError`.
    """

    auto_class: str
    safetensors: bool
    trust_remote_code: bool
    fetch: Callable[[str], Path]


def explain(error: Exception, load: Load) -> str:
    """Return why a load failed, to follow the checkpoint's name in a sentence."""
    if isinstance(error, ImportError):
        return f"needs a library: {first_line(error)}"
    return (
        _by_type(error)
        or _by_config(load)
        or _by_weights(load)
        or _by_own_code(load)
        or next((reason for message, reason in MESSAGES.items() if message in str(error)), None)
        or _by_part(error, load)
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message that is not empty, or the name of its type."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)


def _by_type(error: BaseException) -> str | None:
    from huggingface_hub import errors as hub
    from safetensors import SafetensorError

    reasons = {
        hub.GatedRepoError: "is gated: accept its terms on the Hub and set HF_TOKEN",
        hub.RepositoryNotFoundError: "is neither a folder nor a public model on the Hub",
        hub.HFValidationError: "is neither a folder nor the name of a model on the Hub",
        hub.RevisionNotFoundError: "has no such revision",
        hub.LocalEntryNotFoundError: "is not in this machine's cache, and the Hub cannot be reached",
        SafetensorError: "has a damaged weights file",
    }
    for cause in _causes(error):
        for kind, reason in reasons.items():
            if isinstance(cause, kind):
                return reason
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from: transformers wraps the Hub's in its own."""
    while error:
        yield error
        error = error.__cause__


def _by_config(load: Load) -> str | None:
    from huggingface_hub.errors import EntryNotFoundError

    try:
        config = json.loads(load.fetch("config.json").read_text(encoding="utf-8"))
    except EntryNotFoundError as missing:
        return _by_type(missing) or NO_CONFIG
    except ValueError:
        return "has a config.json that is not valid JSON"
    except Exception as unreachable:
        return _by_type(unreachable)
    return _by_model_type(config if isinstance(config, dict) else {}, load)


def _by_model_type(config: dict[str, Any], load: Load) -> str | None:
    from transformers import CONFIG_MAPPING

    model_type = config.get("model_type")
    if model_type in CONFIG_MAPPING:
        return None
    if config.get("auto_map"):
        return None if load.trust_remote_code else OWN_CODE
    return "is of an architecture that this transformers does not know" if model_type else NO_CONFIG


def _by_weights(load: Load) -> str | None:
    from huggingface_hub.errors import EntryNotFoundError

    if not load.safetensors:
        return None
    for name in WEIGHTS:
        try:
            load.fetch(name)
        except EntryNotFoundError as missing:
            if unreachable := _by_type(missing):
                return unreachable
        else:
            return None
    return PICKLED


def _by_own_code(load: Load) -> str | None:
    """Say whether the checkpoint has Python code of its own for the auto class."""
    if load.trust_remote_code:
        return None
    file, _ = PARTS.get(load.auto_class, ("config.json", None))
    try:
        config = json.loads(load.fetch(file).read_text(encoding="utf-8"))
    except Exception:  # no such file, or none that can be read
        return None
    auto_map = config.get("auto_map") if isinstance(config, dict) else None
    return OWN_CODE if auto_map and load.auto_class in auto_map else None


def _by_part(error: Exception, load: Load) -> str:
    file, reason = PARTS.get(load.auto_class, ("config.json", "does not load"))
    try:
        load.fetch(file)
    except Exception:  # without the file, the error's message says nothing more
        return reason
    return f"{reason}: {first_line(error)}"
