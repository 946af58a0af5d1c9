"""Loading of checkpoints from the Hub or a folder: safetensors only, remote code only if allowed."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from deployments.engines.device import limit_gpu_memory
from deployments.engines.hub import may_download
from deployments.engines.hub_download import Report, download
from deployments.engines.load_failures import PICKLED, FailedLoad, explain
from deployments.errors import InferenceError, ModelNotReady

HEADLESS = {"AutoModel", "AutoModelForTextEncoding"}
# Weights that transformers computes or that count training steps.
CONSTANT = re.compile(r"(^|\.)(position_ids|inv_freq|masked_bias|attn\.bias|num_batches_tracked)$")
# Heads of pretraining (masked words, next sentence, replaced words), and a decoder beside a lone encoder.
PRETRAINING = re.compile(
    r"^((cls|lm_head|lm_loss|pred_layer|generator\w*|\w*predictions|vocab_\w+|contact_head|mlm_head|head|decoder)"
    r"\.|final_logits_bias$)"
)


@dataclass(frozen=True)
class Checkpoint:
    """A Hub model at a revision, or a folder, with the options to load it.

    `device` is a torch device ("cpu", "cuda:0"), `dtype` the name of a torch dtype, or "auto" for the
    checkpoint's dtype (float32 on a CPU that does not support that). `pickle` allows weights that are not
    safetensors; `trust_remote_code` allows the checkpoint's Python code. `engine` names the engine, and
    `engine_options` have the engine's names. `prepare` modifies a loaded network. Every method raises
    `ModelNotReady` with the reason if it cannot load its part. `subfolder` has the network and the tokenizer.
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
    subfolder: str = ""

    def download(self, report: Report) -> None:
        """Download what loading needs from the Hub, if it is not here, and report the progress in words."""
        if may_download(self.name):
            with self._load_errors():
                download(self.name, self.revision, report, pickle=self.pickle, code=self.trust_remote_code)

    def from_pretrained(self, auto_class: Any, **options: Any) -> Any:
        """Load an image processor or config: `checkpoint.from_pretrained(AutoConfig)`."""
        if self.subfolder:
            options["subfolder"] = self.subfolder
        with self._load_errors(auto_class, safetensors="use_safetensors" in options):
            return auto_class.from_pretrained(
                self.name, revision=self.revision, trust_remote_code=self.trust_remote_code, **options
            )

    def tokenizer(self, **options: Any) -> Any:
        """Load the tokenizer; `options` are those of transformers ("padding_side", ...)."""
        from transformers import AutoTokenizer

        tokenizer = self.from_pretrained(AutoTokenizer, **options)
        # A tokenizer without files still loads, but has only special tokens.
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise ModelNotReady(f"{self.name!r} has no tokenizer files")
        return tokenizer

    def network(self, auto_class: Any, **options: Any) -> Any:
        """Load the weights onto the device, ready for inference: `checkpoint.network(AutoModel)`."""
        # By default transformers may load converted weights from a pull request, past the pinned revision.
        os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
        weights = {} if self.pickle else {"use_safetensors": True}
        model, report = self.from_pretrained(
            auto_class, dtype=self.dtype, output_loading_info=True, **weights, **options
        )
        headless = auto_class.__name__ in HEADLESS
        self._check_for_random_weights(model, report["missing_keys"], headless)
        self._check_for_dropped_weights(model, report["unexpected_keys"])
        if self.dtype == "auto" and self.device == "cpu" and not cpu_supports_dtype(str(model.dtype)):
            model = model.float()
        limit_gpu_memory(self.device)
        model = model.eval().to(self.device)
        if self.prepare:
            self.prepare(model)
        return model

    def meta_model(self, auto_class: Any) -> Any:
        """Create the network without weights, on torch's meta device, for an engine that loads them."""
        import torch
        from transformers import AutoConfig, GenerationConfig

        config = self.from_pretrained(AutoConfig)
        with self._load_errors(auto_class), torch.device("meta"):
            model = auto_class.from_config(config, trust_remote_code=self.trust_remote_code)
        if generation := self.json("generation_config.json"):
            model.generation_config = GenerationConfig.from_dict(generation)
        return model

    def json(self, path: str) -> Any:
        """Return the content of one of the checkpoint's JSON files; None if it has no such file."""
        from huggingface_hub import is_offline_mode
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        with self._load_errors():
            try:
                return json.loads(self._local_path(path).read_text(encoding="utf-8"))
            except LocalEntryNotFoundError:
                if not is_offline_mode():
                    raise
            except EntryNotFoundError:
                pass
        return None

    def tensors(self, folder: str) -> dict[str, Any]:
        """Return the tensors of a layer that is saved in its own folder of the checkpoint."""
        import torch
        from huggingface_hub.errors import EntryNotFoundError
        from safetensors.torch import load_file

        with self._load_errors(safetensors=True):
            try:
                return load_file(self._local_path(f"{folder}/model.safetensors"))
            except EntryNotFoundError:
                if not self.pickle:
                    raise ModelNotReady(f"{self.name!r} {PICKLED}") from None
                path = self._local_path(f"{folder}/pytorch_model.bin")
                return dict(torch.load(path, map_location="cpu", weights_only=True))

    def _local_path(self, path: str) -> Path:
        """Return the local path of one of the checkpoint's files, and download it if necessary.

        Raises `EntryNotFoundError` if the checkpoint has no such file, `LocalEntryNotFoundError` if the Hub
        cannot be reached to find out.
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
            # The cache also records the files that a revision does not have.
            if try_to_load_from_cache(self.name, path, revision=self.revision):
                raise EntryNotFoundError(path) from None
            raise

    def _check_for_random_weights(self, model: Any, missing: set[str], headless: bool) -> None:
        """Reject a checkpoint that lacks weights, which transformers fills with random numbers.

        Only the pooler of a network without a head may be random, because no task uses it.
        """
        random = sorted(
            name
            for name in model.state_dict()
            if name in missing and not (CONSTANT.search(name) or (headless and "pooler" in name))
        )
        if random:
            raise ModelNotReady(
                f"{self.name!r} was not trained for this task: it has no weights for {random[0]!r}"
            )

    def _check_for_dropped_weights(self, model: Any, unexpected: set[str]) -> None:
        """Reject a checkpoint with a head that this network lacks, unless only pretraining needs the head."""
        dropped = sorted(
            name for name in unexpected if not (CONSTANT.search(name) or PRETRAINING.search(name))
        )
        if dropped:
            raise ModelNotReady(
                f"{self.name!r} has weights that {type(model).__name__} does not use: {dropped[0]!r}; "
                "another module may fit it"
            )

    @contextmanager
    def _load_errors(self, auto_class: Any = None, *, safetensors: bool = False) -> Iterator[None]:
        """Turn any error inside the context into `ModelNotReady` with the reason."""
        try:
            yield
        except InferenceError:
            raise
        except Exception as error:
            name = getattr(auto_class, "__name__", "")
            load = FailedLoad(name, safetensors, self.trust_remote_code, self._local_path)
            raise ModelNotReady(f"{self.name!r} {explain(error, load)}") from error


def eos_token_ids(model: Any, tokenizer: Any) -> set[int]:
    """Return the ids of the tokens that end a generated text."""
    return flatten_token_ids(model.generation_config.eos_token_id, tokenizer.eos_token_id)


def flatten_token_ids(*values: int | list[int] | None) -> set[int]:
    """Return the token ids of config values, each of which is one id, a list of ids or None."""
    return {id for ids in values if ids is not None for id in (ids if isinstance(ids, list) else [ids])}


def vocabulary_size(model: Any) -> float:
    """Return the number of tokens in a network's embedding table; infinity if it has none."""
    try:
        return len(model.get_input_embeddings().weight)
    except (NotImplementedError, AttributeError):
        return inf


def cpu_supports_dtype(dtype: str) -> bool:
    """Return whether the CPU has instructions for a dtype ("torch.bfloat16").

    Without them half precision takes twenty times as long as float32.
    """
    import torch

    if dtype == "torch.bfloat16":
        is_supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # absent without oneDNN
        return bool(is_supported and is_supported())
    return dtype != "torch.float16"
