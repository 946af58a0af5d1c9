"""Weights laid out for the processor: answers stay, and so does all that is not quicker that way."""

from copy import deepcopy
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from deployments.engines.torch import prepacked_linear as prepacking
from deployments.engines.torch.prepacked_linear import prepack

pytestmark = pytest.mark.model  # loads weights: `make check` leaves these to `make test`

SIZE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "vocab_size": 300,
}  # fmt: skip
T5 = {"vocab_size": 300, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
PICTURES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
IDS = {"input_ids": torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])}
PIXELS = {"pixel_values": torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)}

BFLOAT16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""Whether this processor computes in it; one that does not keeps its layers as they are."""

MODELS = [
    (hf.BertModel, hf.BertConfig(**SIZE), IDS),
    (hf.BertModel, hf.BertConfig(**SIZE, dtype="bfloat16"), IDS),
    (hf.LlamaForCausalLM, hf.LlamaConfig(**SIZE, tie_word_embeddings=False), IDS),
    (hf.T5ForConditionalGeneration, hf.T5Config(**T5), IDS | {"decoder_input_ids": IDS["input_ids"]}),
    (hf.ViTForImageClassification, hf.ViTConfig(**PICTURES, image_size=32, patch_size=8), PIXELS),
]


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepacking, "GAIN", 0.0)


def packed(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if type(module).__name__ == "PrepackedLinear"]


def weights(model: nn.Module) -> set[Any]:
    told = [(name.replace("packed", "weight"), weight) for name, weight in model.named_parameters()]
    return {(name, w.numel(), w.element_size(), w.dtype, w.device) for name, w in told}


@pytest.mark.model
@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    ("cls", "config", "given"), MODELS, ids=lambda value: getattr(value, "__name__", " ")
)
def test_answers_stay(cls: Any, config: Any, given: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(0)
    model = cls._from_config(config).eval()
    before = deepcopy(model)
    prepack(model)
    assert bool(packed(model)) is (model.dtype == torch.float32 or BFLOAT16)
    with torch.inference_mode():
        given = {
            name: value.to(model.dtype) if value.is_floating_point() else value
            for name, value in given.items()
        }
        found, expected = model(**given)[0], before(**given)[0]
    assert (found - expected).abs().max() <= prepacking.TOLERANCE[str(model.dtype)] * expected.abs().max()
    assert weights(model) == weights(before)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("dtype", [torch.float32] + [torch.bfloat16] * BFLOAT16)
def test_weights_that_the_network_itself_reads_are_there(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(50, 70, dtype=dtype), nn.Linear(70, 3, dtype=dtype))
    before = deepcopy(model)
    prepack(model)
    assert packed(model) == ["0", "1"]
    assert torch.equal(model[0].weight, before[0].weight)
    assert packed(model) == ["1"]
    assert [name for name, _ in model.named_parameters()] == ["0.bias", "0.weight", "1.bias", "1.packed"]
    with torch.inference_mode():
        given = torch.ones(2, 50, dtype=dtype)
        assert torch.allclose(model(given), before(given), rtol=2e-2 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.usefixtures("always")
def test_weights_that_are_used_twice_stay() -> None:
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**SIZE, tie_word_embeddings=True)).eval()
    prepack(model)
    assert packed(model)
    assert "lm_head" not in packed(model)
    assert model.lm_head.weight is model.get_input_embeddings().weight


@pytest.mark.usefixtures("always")
def test_what_is_more_than_a_linear_layer_stays() -> None:
    class Scaled(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    model = nn.Sequential(Scaled(8, 8), nn.Linear(8, 8), nn.Linear(8, 8, dtype=torch.float16))
    prepack(model)
    assert packed(model) == ["1"]


def test_what_is_not_quicker_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepacking, "GAIN", 1e9)
    model = nn.Sequential(nn.Linear(64, 64))
    prepack(model)
    assert not packed(model)


@pytest.mark.usefixtures("always")
def test_what_answers_otherwise_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepacking, "_apply", lambda input, weight, bias: input @ weight.to_dense().T * 1.01)
    model = nn.Sequential(nn.Linear(64, 64))
    prepack(model)
    assert not packed(model)


@pytest.mark.usefixtures("always")
def test_a_torch_without_onednn_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(weight: torch.Tensor) -> torch.Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")

    monkeypatch.setattr(prepacking, "_laid_out", absent)
    model = nn.Sequential(nn.Linear(64, 64))
    prepack(model)
    assert not packed(model)
