"""Where a model comes from, and the one way to load it: safetensors only, no remote code unless pinned."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployments.engines.device import keep_to_share
from deployments.engines.torch.prepacked_linear import prepack
from deployments.errors import InferenceError, ModelNotReady

NO_LIMIT = 1_000_000  # tokenizers say 1e30 when they were saved without a limit
PICKLED = "has no safetensors weights; `allow_pickle: true` in config.yml lets pickled ones in"

# What transformers says when a load fails, and what we say: the first that occurs in its message counts.
REASONS = {
    "couldn't connect": "is not in this machine's cache, and the Hub cannot be reached",
    "valid model identifier": "is neither a folder nor a public model on the Hub",
    "Repo id must be": "is neither a folder nor the name of a model on the Hub",
    "gated repo": "is gated: accept its terms on the Hub and set HF_TOKEN",
    "valid git identifier": "has no such revision",
    "named model.safetensors": PICKLED,
    "cannot be loaded with `safetensors`": PICKLED,
    "Unrecognized configuration class": "is of an architecture that does not perform this task",
    "does not recognize this architecture": "is of an architecture that this transformers does not know",
    "Unrecognized model": "is no checkpoint: it has no config.json that names a `model_type`",
    "custom code": "brings its own Python code; `trust_remote_code: true` in config.yml runs it",
    "a valid JSON file": "has a config.json that is not valid JSON",
    "backend tokenizer": "has no tokenizer that can be read",
    "image processor": "has no preprocessor_config.json that can be read",
    "deserializing header": "has a damaged weights file",
}


@dataclass(frozen=True)
class Checkpoint:
    """A Hub model at a revision, or a folder; and how it is to be loaded.

    `device` is a torch device ("cpu", "cuda:0"), `dtype` the name of a torch dtype, or "auto" for the
    checkpoint's own (float32 on a processor that does not compute in it). `pickle` allows one without
    safetensors;
    `trust_remote_code` runs the checkpoint's own Python. `engine` is what runs it, with `engine_options` by
    the engine's own names. Whatever does not load raises `ModelNotReady` with the reason.
    """

    name: str
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "auto"
    trust_remote_code: bool = False
    pickle: bool = False
    engine: str = "torch"
    engine_options: Mapping[str, Any] = field(default_factory=dict)

    def read(self, auto_class: Any, **options: Any) -> Any:
        """Load an image processor or config: `checkpoint.read(AutoConfig)`."""
        with self._told():
            return auto_class.from_pretrained(
                self.name, revision=self.revision, trust_remote_code=self.trust_remote_code, **options
            )

    def tokenizer(self, **options: Any) -> Any:
        """Load the tokenizer; `options` are transformers' own ("padding_side", ...)."""
        from transformers import AutoTokenizer

        tokenizer = self.read(AutoTokenizer, **options)
        # Without its files a tokenizer still loads, and knows nothing but its special tokens.
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise ModelNotReady(f"{self.name!r} has no tokenizer files")
        return tokenizer

    def network(self, auto_class: Any, **options: Any) -> Any:
        """Load the weights onto the device, ready for inference: `checkpoint.network(AutoModel)`."""
        # Otherwise transformers looks for converted weights in a pull request, past the pinned revision.
        os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
        weights = {} if self.pickle else {"use_safetensors": True}
        model, report = self.read(
            auto_class, dtype=self.dtype, output_loading_info=True, **weights, **options
        )
        self._refuse_random_weights(model, report["missing_keys"])
        if self.dtype == "auto" and self.device == "cpu" and not _computes_in(str(model.dtype)):
            model = model.float()
        keep_to_share(self.device)
        model = model.eval().to(self.device)
        if self.engine == "torch":  # another engine reads the weights as they come
            prepack(model)
        return model

    def outline(self, auto_class: Any) -> Any:
        """The network without its weights, on torch's meta device: for an engine that loads them itself."""
        import torch
        from transformers import AutoConfig, GenerationConfig

        config = self.read(AutoConfig)
        with self._told(), torch.device("meta"):
            model = auto_class.from_config(config, trust_remote_code=self.trust_remote_code)
        if told := self.json("generation_config.json"):
            model.generation_config = GenerationConfig.from_dict(told)
        return model

    def json(self, path: str) -> Any:
        """One of the checkpoint's JSON files, or None if it has no such file."""
        from huggingface_hub import is_offline_mode
        from transformers.utils import cached_file

        with self._told():
            found = cached_file(
                self.name,
                path,
                revision=self.revision,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=not is_offline_mode(),
            )
        return found and json.loads(Path(found).read_text())

    def _refuse_random_weights(self, model: Any, missing: set[str]) -> None:
        """transformers makes up what is missing; that may only be a pooler, which no task reads."""
        made_up = sorted(
            name for name, _ in model.named_parameters() if name in missing and "pooler" not in name
        )
        if made_up:
            raise ModelNotReady(
                f"{self.name!r} was not trained for this task: it has no weights for {made_up[0]!r}"
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except InferenceError:
            raise
        except ImportError as absent:
            raise ModelNotReady(f"{self.name!r} needs a library: {_first_line(absent)}") from absent
        except Exception as error:
            text = str(error)
            known = (reason for sign, reason in REASONS.items() if sign in text)
            reason = next(known, f"does not load: {_first_line(error)}")
            raise ModelNotReady(f"{self.name!r} {reason}") from error


def max_length(tokenizer: Any, config: Any) -> int:
    """The longest input, in tokens, that both the tokenizer and the network accept; 4096 if neither says."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions and positions % 256 == 2:  # RoBERTa's kin have two more than they use: 514, 4098, 8194
        positions -= 2
    limits = (tokenizer.model_max_length, positions)
    return min((limit for limit in limits if limit and 0 < limit < NO_LIMIT), default=4096)


def _computes_in(dtype: str) -> bool:
    """Whether this processor does: others take twenty times as long for half precision as for float32."""
    import torch

    if dtype == "torch.bfloat16":
        asked = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # none without oneDNN
        return bool(asked and asked())
    return dtype != "torch.float16"


def _first_line(error: Exception) -> str:
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
