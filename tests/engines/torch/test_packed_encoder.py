"""Packed encoders: outputs equal those of padded batches, or the network stays unchanged."""

from copy import deepcopy
from typing import Any

import pytest
import torch
import transformers as hf

from deployments.engines.packing import PACKED_PADDING
from deployments.engines.torch.packed_encoder import pack

pytestmark = pytest.mark.model

SIZE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "vocab_size": 300,
}  # fmt: skip
DISTIL = hf.DistilBertConfig(vocab_size=300, dim=32, n_layers=2, n_heads=4, hidden_dim=64)
ROBERTA = hf.RobertaConfig(**SIZE, max_position_embeddings=66, pad_token_id=1)
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": None, "eos_token_id": None}
MODERN = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}

PACKED = [
    (hf.BertModel, hf.BertConfig(**SIZE)),
    (hf.BertForSequenceClassification, hf.BertConfig(**SIZE)),
    (hf.RobertaModel, ROBERTA),
    (hf.RobertaForSequenceClassification, ROBERTA),
    (hf.DistilBertModel, DISTIL),
    (hf.DistilBertForSequenceClassification, DISTIL),
    (hf.ElectraModel, hf.ElectraConfig(**SIZE, embedding_size=32)),
]
UNPACKED = [
    (hf.GPT2Model, hf.GPT2Config(vocab_size=300, **GPT2)),  # causal attention
    (hf.ModernBertModel, hf.ModernBertConfig(**SIZE, **MODERN)),  # local attention in some layers
    (hf.MPNetModel, hf.MPNetConfig(**SIZE, max_position_embeddings=66)),  # relative position bias
    (hf.T5EncoderModel, hf.T5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)),
]


def name(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else ""


def create_network(model_class: Any, config: Any) -> Any:
    torch.manual_seed(0)
    return model_class._from_config(deepcopy(config)).eval()


def batch(*lengths: int, left: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    longest, column = max(lengths), torch.tensor(lengths).unsqueeze(1)
    ids = torch.randint(5, 300, (len(lengths), longest), generator=generator)
    positions = torch.arange(longest)
    mask = positions >= longest - column if left else positions < column
    return {"input_ids": ids.where(mask, 1), "attention_mask": mask.long()}


def outputs(model: Any, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Return the outputs that tasks use: logits; or the states of tokens without padding, and pooled ones."""
    with torch.inference_mode():
        output = model(**inputs)
    if "logits" in output:
        return [output.logits]
    states = [output.last_hidden_state[inputs["attention_mask"].bool()]]
    return states + ([output.pooler_output] if output.get("pooler_output") is not None else [])


def max_error(model: Any, exact: Any, inputs: dict[str, torch.Tensor]) -> float:
    pairs = zip(outputs(model, inputs), outputs(exact, inputs), strict=True)
    return max(float((output.float() - expected).abs().max()) for output, expected in pairs)


@pytest.mark.parametrize("lengths", [(3,), (7, 7, 7), (20, 3, 11, 3, 60, 1), (1, 1, 2), (60, 59) * 6])
@pytest.mark.parametrize(("model_class", "config"), PACKED, ids=name)
def test_packed_outputs_equal_padded_ones(model_class: Any, config: Any, lengths: tuple[int, ...]) -> None:
    model = create_network(model_class, config)
    expected = outputs(model, batch(*lengths))
    assert pack(model) == PACKED_PADDING
    for output, expected_output in zip(outputs(model, batch(*lengths)), expected, strict=True):
        assert torch.allclose(output, expected_output, atol=1e-5)


def test_packing_supports_padding_on_the_left() -> None:
    model = create_network(*PACKED[0])
    assert pack(model) == PACKED_PADDING
    right, left = (outputs(model, batch(9, 4, 30, 4, left=side))[0] for side in (False, True))
    assert right.shape == left.shape == (47, 32)
    with torch.inference_mode():
        inputs = batch(9, 4, left=True)
        single = {
            "input_ids": inputs["input_ids"][1:, 5:],
            "attention_mask": inputs["attention_mask"][1:, 5:],
        }
        assert torch.allclose(model(**inputs)[0][1:, 5:], model(**single)[0], atol=1e-5)


def test_padding_has_the_state_of_its_texts_first_token() -> None:
    model = create_network(*PACKED[0])
    assert pack(model) == PACKED_PADDING
    inputs = batch(9, 4, 30, left=True)
    with torch.inference_mode():
        states = model(**inputs)[0]
    for row, mask in zip(states, inputs["attention_mask"].bool(), strict=True):
        assert torch.equal(row[~mask], row[mask][0].expand(int((~mask).sum()), -1))


def test_packing_keeps_token_type_ids() -> None:
    model, inputs = create_network(*PACKED[0]), batch(9, 4, 30)
    inputs["token_type_ids"] = torch.randint(0, 2, inputs["input_ids"].shape)
    expected = outputs(model, inputs)
    assert pack(model) == PACKED_PADDING
    for output, expected_output in zip(outputs(model, inputs), expected, strict=True):
        assert torch.allclose(output, expected_output, atol=1e-5)


def test_packed_encoder_computes_no_padding() -> None:
    model = create_network(*PACKED[0])
    shapes = []
    model.encoder.layer[0].register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape[:2]))
    outputs(model, batch(2, 50, 3))
    pack(model)
    shapes.clear()
    outputs(model, batch(2, 50, 3))
    assert shapes == [(1, 55)]


@pytest.mark.parametrize(("model_class", "config"), PACKED, ids=name)
def test_packed_bfloat16_outputs_are_as_accurate_as_padded_ones(model_class: Any, config: Any) -> None:
    model, inputs = create_network(model_class, config).bfloat16(), batch(20, 3, 11, 3, 60, 1)
    exact = deepcopy(model).float()
    padded_error = max_error(model, exact, inputs)
    assert pack(model) == PACKED_PADDING
    assert max_error(model, exact, inputs) <= 1.5 * padded_error


@pytest.mark.parametrize(("model_class", "first"), [(hf.BertModel, 0), (hf.RobertaModel, 2)], ids=name)
def test_bfloat16_packing_selects_the_first_position_with_the_smaller_error(
    model_class: Any, first: int
) -> None:
    """With small position embeddings, outputs with wrong positions are within the tolerance as well."""
    model = create_network(model_class, dict(PACKED)[model_class])
    positions = model.embeddings.position_embeddings
    with torch.no_grad():
        positions.weight *= 0.01
    first_positions: list[int] = []
    positions.register_forward_pre_hook(lambda _, args: first_positions.append(int(args[0].min())))
    assert pack(model.bfloat16()) == PACKED_PADDING
    first_positions.clear()
    outputs(model, batch(9, 4))
    assert first_positions == [first]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("model_class", "config"), UNPACKED, ids=name)
def test_unsupported_encoder_stays_unchanged(model_class: Any, config: Any, dtype: torch.dtype) -> None:
    model = create_network(model_class, config).to(dtype)
    before = model.base_model.forward, model.config._attn_implementation
    expected = outputs(model, batch(9, 4, 30))
    assert pack(model) == 1.0
    assert (model.base_model.forward, model.config._attn_implementation) == before
    for output, expected_output in zip(outputs(model, batch(9, 4, 30)), expected, strict=True):
        assert torch.equal(output, expected_output)
