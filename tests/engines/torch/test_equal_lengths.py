"""Encoders that padding changes: a padded batch has the outputs of each text alone."""

from typing import Any

import pytest
import torch
import transformers as hf

from deployments.engines.packing import PACKED_PADDING
from deployments.engines.torch.equal_lengths import NEVER_PAD
from deployments.engines.torch.packed_encoder import prepare
from deployments.errors import InvalidInput, ModelNotReady

pytestmark = pytest.mark.model

SIZE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "vocab_size": 100, "max_position_embeddings": 64,
}  # fmt: skip
XLNET = {"vocab_size": 100, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}
CHANGED_BY_PADDING = [
    (hf.FNetModel, hf.FNetConfig(**SIZE)),  # a Fourier transform of the row
    (hf.ConvBertModel, hf.ConvBertConfig(**SIZE, embedding_size=32)),  # convolutions
    (hf.XLNetForSequenceClassification, hf.XLNetConfig(**XLNET)),  # classifies by the last token of the row
]
LENGTHS = (20, 3, 11, 3, 33)


def network(model_class: Any, config: Any) -> Any:
    torch.manual_seed(0)
    model = model_class._from_config(config).eval()
    for weight in model.parameters():
        weight.data *= 4 if weight.dim() > 1 else 1  # small random weights would hide the effect of padding
    return model


def padded(lengths: tuple[int, ...], left: bool) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    column, positions = torch.tensor(lengths).unsqueeze(1), torch.arange(max(lengths))
    mask = positions >= max(lengths) - column if left else positions < column
    ids = torch.randint(5, 100, mask.shape, generator=generator)
    return {"input_ids": ids.where(mask, 0), "attention_mask": mask.long()}


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize(("model_class", "config"), CHANGED_BY_PADDING)
@torch.inference_mode()
def test_a_padded_batch_has_the_outputs_of_each_text_alone(model_class: Any, config: Any, left: bool) -> None:
    model, batch = network(model_class, config), padded(LENGTHS, left)
    masks = batch["attention_mask"].bool()
    rows = [ids[mask].unsqueeze(0) for ids, mask in zip(batch["input_ids"], masks, strict=True)]
    alone = [model(input_ids=row, attention_mask=torch.ones_like(row))[0][0] for row in rows]
    plain = model(**batch)[0]
    assert prepare(model) == NEVER_PAD
    together = model(**batch)[0]
    for index, (mask, expected) in enumerate(zip(masks, alone, strict=True)):
        pick = mask if expected.dim() == 2 else ...
        assert torch.allclose(together[index][pick], expected, atol=1e-5)
    assert left or any(  # some read texts that are padded on the left correctly
        not torch.allclose(plain[index][mask if row.dim() == 2 else ...], row, atol=1e-3)
        for index, (mask, row) in enumerate(zip(masks, alone, strict=True))
    )


@torch.inference_mode()
def test_networks_that_padding_does_not_change_are_padded_or_packed() -> None:
    assert prepare(network(hf.BertModel, hf.BertConfig(**SIZE))) == PACKED_PADDING
    assert prepare(network(hf.MPNetModel, hf.MPNetConfig(**SIZE))) == 1.0


def test_a_dtype_that_the_network_cannot_compute_is_refused() -> None:
    model = network(hf.FNetModel, hf.FNetConfig(**SIZE)).to(torch.bfloat16)
    with pytest.raises(ModelNotReady, match="bfloat16"):
        prepare(model)


@torch.inference_mode()
def test_a_text_that_is_too_short_for_the_network_is_refused() -> None:
    config = hf.CanineConfig(**{**SIZE, "vocab_size": None}, local_transformer_stride=8)
    model = network(hf.CanineModel, config)
    assert prepare(model) == NEVER_PAD
    assert model(**padded((20, 12), False))[0].shape == (2, 20, 32)
    with pytest.raises(InvalidInput, match="3 tokens is too short"):
        model(**padded((20, 3), False))
