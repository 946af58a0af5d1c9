"""Checkpoints of tiny networks with random weights that are large enough for every part to matter."""

from pathlib import Path
from typing import Any

import torch
import transformers as hf
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests import tiny_models as tiny
from tests.zoo.tiny_configs import tiny_config

NO_LIMIT = int(1e30)
LABELS = {"id2label": {0: "zero", 1: "one", 2: "two"}, "label2id": {"zero": 0, "one": 1, "two": 2}}


def checkpoint(architecture: str, model_type: str, tokenizer: str, **settings: Any) -> Path:
    """Return the folder of a network of this class ("BertModel"); `tokenizer` is "wordpiece" or "bpe"."""
    network_class = getattr(hf, architecture)
    config = _config(network_class, model_type, settings)
    torch.manual_seed(0)
    network = network_class(config).eval()
    _spread(network)
    return tiny.save(network, TOKENIZERS[tokenizer]())


def _config(network_class: Any, model_type: str, settings: dict[str, Any]) -> Any:
    """Return the small config that the class takes: a family's, or that of its language model."""
    own = network_class.config_class
    if own is not None and own is not CONFIG_MAPPING[model_type]:
        model_type = own.model_type
    return tiny_config(model_type, **settings)


def _spread(network: Any) -> None:
    """Scale each matrix so that its outputs are as large as its inputs: small weights would hide errors."""
    for name, weight in network.named_parameters():
        if weight.dim() in (2, 3) and name.endswith(("weight", "proj")) and "conv" not in name:
            deviation = weight.data.std()
            if deviation > 0:
                weight.data *= weight.shape[-1] ** -0.5 / deviation


def _wordpiece() -> Any:
    tokenizer = tiny.wordpiece()
    tokenizer.model_max_length = NO_LIMIT
    return tokenizer


def _bpe() -> Any:
    return tiny.byte_bpe(pad_token="<pad>")


TOKENIZERS = {"wordpiece": _wordpiece, "bpe": _bpe}
