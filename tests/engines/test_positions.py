"""The longest text that a network reads, by the positions of its architecture."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as hf

from deployments.engines.positions import max_length, usable_positions

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.mark.parametrize("positions", [40, 130, 512, 514])
@pytest.mark.parametrize(("config", "reserved"), [
    (hf.BertConfig, 0), (hf.RobertaConfig, 2), (hf.XLMRobertaConfig, 2), (hf.CamembertConfig, 2),
    (hf.MPNetConfig, 2), (hf.XmodConfig, 2), (hf.IBertConfig, 2),
    (hf.RobertaPreLayerNormConfig, 2), (hf.Data2VecTextConfig, 2), (hf.ElectraConfig, 0), (hf.EsmConfig, 1),
])  # fmt: skip
def test_usable_positions_are_all_that_the_network_reads(config: Any, positions: int, reserved: int) -> None:
    options = {
        **SMALL,
        "vocab_size": 30,
        "max_position_embeddings": positions,
        "pad_token_id": 1 if reserved else 0,
    }
    if config is hf.EsmConfig:
        options |= {"pad_token_id": 0, "mask_token_id": 2}
    if config is hf.XmodConfig:
        options |= {"languages": ["en_XX"], "default_language": "en_XX"}
    network = hf.AutoModel.from_config(config(**options)).eval()
    usable = usable_positions(network)
    assert usable == positions - reserved
    with torch.inference_mode():
        network(input_ids=torch.full((1, usable), 5))
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            network(input_ids=torch.full((1, usable + 1), 5))


@pytest.mark.parametrize(("tokenizer_limit", "positions", "limit"), [
    (512, 514, 512), (10**30, 1024, 1024), (77, None, 77), (10**30, None, 4096), (1024, 1024, 1024),
])  # fmt: skip
def test_limit_of_the_tokenizer_and_of_the_network(
    tokenizer_limit: int, positions: int | None, limit: int
) -> None:
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=positions))
    network = SimpleNamespace(config=config, named_modules=lambda: [])
    assert max_length(SimpleNamespace(model_max_length=tokenizer_limit), network) == limit
