"""Where a model comes from, and the one way to load it: safetensors only, no remote code unless pinned."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployments.engines.device import keep_to_share
from deployments.engines.load_failures import Load, explain
from deployments.errors import InferenceError, ModelNotReady

NO_LIMIT = 1_000_000  # tokenizers say 1e30 when they were saved without a limit


@dataclass(frozen=True)
class Checkpoint:
    """A Hub model at a revision, or a folder; and how it is to be loaded.

    `device` is a torch device ("cpu", "cuda:0"), `dtype` the name of a torch dtype, or "auto" for the
    checkpoint's own (float32 on a processor that does not compute in it). `pickle` allows one without
    safetensors; `trust_remote_code` runs the checkpoint's own Python. `engine` is what runs it, with
    `engine_options` by the engine's own names. `prepare` changes a network that has loaded. Whatever does not
    load raises `ModelNotReady` with the reason.
    """

    name: str
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "auto"
    trust_remote_code: bool = False
    pickle: bool = False
    engine: str = "torch"
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Any], None] | None = None

    def read(self, auto_class: Any, **options: Any) -> Any:
        """Load an image processor or config: `checkpoint.read(AutoConfig)`."""
        with self._explained(auto_class, safetensors="use_safetensors" in options):
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
        if self.prepare:
            self.prepare(model)
        return model

    def outline(self, auto_class: Any) -> Any:
        """Make the network without weights, on torch's meta device: for an engine that loads them itself."""
        import torch
        from transformers import AutoConfig, GenerationConfig

        config = self.read(AutoConfig)
        with self._explained(auto_class), torch.device("meta"):
            model = auto_class.from_config(config, trust_remote_code=self.trust_remote_code)
        if generation := self.json("generation_config.json"):
            model.generation_config = GenerationConfig.from_dict(generation)
        return model

    def json(self, path: str) -> Any:
        """Read one of the checkpoint's JSON files; None if it has no such file."""
        from huggingface_hub import is_offline_mode
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        with self._explained():
            try:
                return json.loads(self._fetch(path).read_text(encoding="utf-8"))
            except LocalEntryNotFoundError:
                if not is_offline_mode():
                    raise
            except EntryNotFoundError:
                pass
        return None

    def _fetch(self, path: str) -> Path:
        """Return where one of the checkpoint's files is on this machine.

        Raises `EntryNotFoundError` if there is no such file, `LocalEntryNotFoundError` if that is unknown.
        """
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        if os.path.isdir(self.name):
            if (file := Path(self.name, path)).is_file():
                return file
            raise EntryNotFoundError(path)
        try:
            return Path(hf_hub_download(self.name, path, revision=self.revision))
        except LocalEntryNotFoundError:
            # The cache also knows of files that a revision does not have.
            if try_to_load_from_cache(self.name, path, revision=self.revision):
                raise EntryNotFoundError(path) from None
            raise

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
    def _explained(self, auto_class: Any = None, *, safetensors: bool = False) -> Iterator[None]:
        """Raise `ModelNotReady` with the reason for whatever a load raises."""
        try:
            yield
        except InferenceError:
            raise
        except Exception as error:
            name = getattr(auto_class, "__name__", "")
            load = Load(name, safetensors, self.trust_remote_code, self._fetch)
            raise ModelNotReady(f"{self.name!r} {explain(error, load)}") from error


def max_length(tokenizer: Any, config: Any) -> int:
    """The longest input, in tokens, that both the tokenizer and the network accept; 4096 if neither says."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions and positions % 256 == 2:  # RoBERTa's kin have two more than they use: 514, 4098, 8194
        positions -= 2
    limits = (tokenizer.model_max_length, positions)
    return min((limit for limit in limits if limit and 0 < limit < NO_LIMIT), default=4096)


def end_token_ids(model: Any, tokenizer: Any) -> set[int]:
    """Return the ids of the tokens that end an answer."""
    return token_ids(model.generation_config.eos_token_id, tokenizer.eos_token_id)


def token_ids(*given: int | list[int] | None) -> set[int]:
    """Return token ids as one set: a config has one of them, several or none."""
    return {one for ids in given if ids is not None for one in (ids if isinstance(ids, list) else [ids])}


def _computes_in(dtype: str) -> bool:
    """Whether this processor does: others take twenty times as long for half precision as for float32."""
    import torch

    if dtype == "torch.bfloat16":
        asked = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # none without oneDNN
        return bool(asked and asked())
    return dtype != "torch.float16"
