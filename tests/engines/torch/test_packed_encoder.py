"""Texts in one row: answers are those of padded batches, or else nothing is packed."""

from copy import deepcopy
from typing import Any

import pytest
import torch
import transformers as hf

from deployments.engines.packing import PACKED_PADDING
from deployments.engines.torch.packed_encoder import pack

pytestmark = pytest.mark.model  # loads weights: `make check` leaves these to `make test`

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
    (hf.GPT2Model, hf.GPT2Config(vocab_size=300, **GPT2)),  # a token sees those before it
    (hf.ModernBertModel, hf.ModernBertConfig(**SIZE, **MODERN)),  # in some layers, those near it
    (hf.MPNetModel, hf.MPNetConfig(**SIZE, max_position_embeddings=66)),  # how far depends on the distance
    (hf.T5EncoderModel, hf.T5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)),
]


def name(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else ""


def network(make: Any, config: Any) -> Any:
    torch.manual_seed(0)
    return make._from_config(deepcopy(config)).eval()


def batch(*lengths: int, left: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    longest, column = max(lengths), torch.tensor(lengths).unsqueeze(1)
    ids = torch.randint(5, 300, (len(lengths), longest), generator=generator)
    places = torch.arange(longest)
    mask = places >= longest - column if left else places < column
    return {"input_ids": ids.where(mask, 1), "attention_mask": mask.long()}


def outputs(model: Any, given: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """What a task may read: logits; or the states of tokens that are no padding, and the pooled ones."""
    with torch.inference_mode():
        found = model(**given)
    if "logits" in found:
        return [found.logits]
    states = [found.last_hidden_state[given["attention_mask"].bool()]]
    return states + ([found.pooler_output] if found.get("pooler_output") is not None else [])


def furthest(model: Any, exact: Any, given: dict[str, torch.Tensor]) -> float:
    pairs = zip(outputs(model, given), outputs(exact, given), strict=True)
    return max(float((found.float() - one).abs().max()) for found, one in pairs)


@pytest.mark.parametrize("lengths", [(3,), (7, 7, 7), (20, 3, 11, 3, 60, 1), (1, 1, 2), (60, 59) * 6])
@pytest.mark.parametrize(("make", "config"), PACKED, ids=name)
def test_answers_are_those_of_padded_batches(make: Any, config: Any, lengths: tuple[int, ...]) -> None:
    model = network(make, config)
    expected = outputs(model, batch(*lengths))
    assert pack(model) == PACKED_PADDING
    for found, theirs in zip(outputs(model, batch(*lengths)), expected, strict=True):
        assert torch.allclose(found, theirs, atol=1e-5)


def test_padding_may_be_on_the_left() -> None:
    model = network(*PACKED[0])
    assert pack(model) == PACKED_PADDING
    right, left = (outputs(model, batch(9, 4, 30, 4, left=side))[0] for side in (False, True))
    assert right.shape == left.shape == (47, 32)
    with torch.inference_mode():
        given = batch(9, 4, left=True)
        alone = {"input_ids": given["input_ids"][1:, 5:], "attention_mask": given["attention_mask"][1:, 5:]}
        assert torch.allclose(model(**given)[0][1:, 5:], model(**alone)[0], atol=1e-5)


def test_padding_is_nothing_of_another_text() -> None:
    model = network(*PACKED[0])
    assert pack(model) == PACKED_PADDING
    given = batch(9, 4, 30, left=True)
    with torch.inference_mode():
        states = model(**given)[0]
    for row, mask in zip(states, given["attention_mask"].bool(), strict=True):
        assert torch.equal(row[~mask], row[mask][0].expand(int((~mask).sum()), -1))


def test_types_of_tokens_are_kept() -> None:
    model, given = network(*PACKED[0]), batch(9, 4, 30)
    given["token_type_ids"] = torch.randint(0, 2, given["input_ids"].shape)
    expected = outputs(model, given)
    assert pack(model) == PACKED_PADDING
    for found, theirs in zip(outputs(model, given), expected, strict=True):
        assert torch.allclose(found, theirs, atol=1e-5)


def test_padding_is_not_computed() -> None:
    model = network(*PACKED[0])
    rows = []
    model.encoder.layer[0].register_forward_pre_hook(lambda _, given: rows.append(given[0].shape[:2]))
    outputs(model, batch(2, 50, 3))
    pack(model)
    rows.clear()
    outputs(model, batch(2, 50, 3))
    assert rows == [(1, 55)]


@pytest.mark.parametrize(("make", "config"), PACKED, ids=name)
def test_in_bfloat16_answers_are_as_near_as_padded_ones(make: Any, config: Any) -> None:
    model, given = network(make, config).bfloat16(), batch(20, 3, 11, 3, 60, 1)
    exact = deepcopy(model).float()
    usual = furthest(model, exact, given)
    assert pack(model) == PACKED_PADDING
    assert furthest(model, exact, given) <= 1.5 * usual


@pytest.mark.parametrize(("make", "first"), [(hf.BertModel, 0), (hf.RobertaModel, 2)], ids=name)
def test_in_bfloat16_the_nearer_of_two_positions_is_the_first(make: Any, first: int) -> None:
    """Where positions count for little, answers with the wrong ones are near enough as well."""
    model = network(make, dict(PACKED)[make])
    positions = model.embeddings.position_embeddings
    with torch.no_grad():
        positions.weight *= 0.01
    seen: list[int] = []
    positions.register_forward_pre_hook(lambda _, given: seen.append(int(given[0].min())))
    assert pack(model.bfloat16()) == PACKED_PADDING
    seen.clear()
    outputs(model, batch(9, 4))
    assert seen == [first]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("make", "config"), UNPACKED, ids=name)
def test_where_answers_would_differ_nothing_changes(make: Any, config: Any, dtype: torch.dtype) -> None:
    model = network(make, config).to(dtype)
    before = model.base_model.forward, model.config._attn_implementation
    expected = outputs(model, batch(9, 4, 30))
    assert pack(model) == 1.0
    assert (model.base_model.forward, model.config._attn_implementation) == before
    for found, theirs in zip(outputs(model, batch(9, 4, 30)), expected, strict=True):
        assert torch.equal(found, theirs)
