"""Explanations of failed loads, from the types of exceptions and from the checkpoint's files."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from deployments.errors import ModelNotReady

NO_CONFIG = "is no checkpoint: it has no config.json with a `model_type`"
REMOTE_CODE = "contains Python code; to run it, set `trust_remote_code: true` in config.yml"
PICKLED = "has no safetensors weights; to load pickled ones, set `allow_pickle: true` in config.yml"
UNCACHED = "is not in this machine's cache, and the Hub cannot be reached"
UNCACHED_OFFLINE = "is not completely in this machine's cache, and offline mode allows no download"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")

# The file that an auto class reads, if it is not config.json, and the reason if no other one is known.
PARTS = {
    "AutoTokenizer": ("tokenizer_config.json", "has no readable tokenizer"),
    "AutoImageProcessor": ("preprocessor_config.json", "has no readable preprocessor_config.json"),
}

# Reasons that only a message has: `_BaseAutoModelClass.from_pretrained` and `from_config` in transformers'
# models/auto/auto_factory.py raise a plain ValueError, and the mapping that they look into is private.
MESSAGES = {"Unrecognized configuration class": "has an architecture that does not support this task"}


class FailedLoad(NamedTuple):
    """The load that failed: the name of an auto class, and whether it requires safetensors weights.

    `fetch` returns the path of one of the checkpoint's files, or raises the Hub's `EntryNotFoundError`.
    """

    auto_class: str
    safetensors: bool
    trust_remote_code: bool
    fetch: Callable[[str], Path]


def explain(error: Exception, load: FailedLoad) -> str:
    """Return the reason for a failed load, to follow the checkpoint's name in a sentence."""
    if isinstance(error, ImportError):
        return f"needs a library: {first_line(error)}"
    return (
        _by_type(error)
        or _by_config(load)
        or _by_weights(load)
        or _by_remote_code(load)
        or next((reason for message, reason in MESSAGES.items() if message in str(error)), None)
        or _by_part(error, load)
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message that is not empty, or the name of its type."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)


def cannot_run(model: Any, error: Exception) -> ModelNotReady:
    """Return the error for a network that was loaded, but fails on every input."""
    dtypes = {str(weight.dtype).removeprefix("torch.") for weight in model.parameters()}
    weights = " and ".join(sorted(dtypes))
    return ModelNotReady(f"the network cannot run with weights of {weights}: {first_line(error)}")


def _by_type(error: BaseException) -> str | None:
    from huggingface_hub import errors as hub
    from huggingface_hub import is_offline_mode
    from safetensors import SafetensorError

    reasons = {
        hub.GatedRepoError: "is gated: accept its terms on the Hub and set HF_TOKEN",
        hub.RepositoryNotFoundError: "is neither a folder nor a public model on the Hub",
        hub.HFValidationError: "is neither a folder nor the name of a model on the Hub",
        hub.RevisionNotFoundError: "has no such revision",
        hub.LocalEntryNotFoundError: UNCACHED_OFFLINE if is_offline_mode() else UNCACHED,
        SafetensorError: "has a damaged weights file",
    }
    for cause in _causes(error):
        for error_type, reason in reasons.items():
            if isinstance(cause, error_type):
                return reason
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, because transformers wraps the Hub's errors in others."""
    while error:
        yield error
        error = error.__cause__


def _by_config(load: FailedLoad) -> str | None:
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


def _by_model_type(config: dict[str, Any], load: FailedLoad) -> str | None:
    from transformers import CONFIG_MAPPING

    model_type = config.get("model_type")
    if model_type in CONFIG_MAPPING:
        return None
    if config.get("auto_map"):
        return None if load.trust_remote_code else REMOTE_CODE
    return "has an architecture that the installed transformers does not support" if model_type else NO_CONFIG


def _by_weights(load: FailedLoad) -> str | None:
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


def _by_remote_code(load: FailedLoad) -> str | None:
    """Return the reason if the checkpoint has Python code for the auto class that may not run."""
    if load.trust_remote_code:
        return None
    file, _ = PARTS.get(load.auto_class, ("config.json", None))
    try:
        config = json.loads(load.fetch(file).read_text(encoding="utf-8"))
    except Exception:  # the file is absent or unreadable
        return None
    auto_map = config.get("auto_map") if isinstance(config, dict) else None
    return REMOTE_CODE if auto_map and load.auto_class in auto_map else None


def _by_part(error: Exception, load: FailedLoad) -> str:
    file, reason = PARTS.get(load.auto_class, ("config.json", "does not load"))
    try:
        load.fetch(file)
    except Exception:  # without the file, the error's message adds nothing
        return reason
    return f"{reason}: {first_line(error)}"
