"""`engine.prepack`: weights laid out for the processor, with the same answers."""

from copy import deepcopy
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from deployments.config.model_config import Engine, ModelConfig
from deployments.engines.torch.prepacked_linear import prepack
from deployments.errors import ModelNotReady
from deployments.tasks.sentiment import Sentiment
from tests import tiny_models as tiny
from tests.loaded_models import answers, loaded

pytestmark = pytest.mark.model  # loads weights: `make check` leaves these to `make test`

SIZE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "vocab_size": 300,
}  # fmt: skip
T5 = {"vocab_size": 300, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
PICTURES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
IDS = {"input_ids": torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])}
PIXELS = {"pixel_values": torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)}

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # of the largest number

BFLOAT16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""Whether this processor computes in it."""

MODELS = [
    (hf.BertModel, hf.BertConfig(**SIZE), IDS),
    (hf.BertModel, hf.BertConfig(**SIZE, dtype="bfloat16"), IDS),
    (hf.LlamaForCausalLM, hf.LlamaConfig(**SIZE, tie_word_embeddings=False), IDS),
    (hf.T5ForConditionalGeneration, hf.T5Config(**T5), IDS | {"decoder_input_ids": IDS["input_ids"]}),
    (hf.ViTForImageClassification, hf.ViTConfig(**PICTURES, image_size=32, patch_size=8), PIXELS),
]


def packed(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if type(module).__name__ == "PrepackedLinear"]


def weights(model: nn.Module) -> set[Any]:
    return {(name, w.shape, w.dtype, w.device) for name, w in model.named_parameters()}


@pytest.mark.parametrize(
    ("cls", "config", "given"), MODELS, ids=lambda value: getattr(value, "__name__", " ")
)
def test_prepacked_models_give_the_same_answers(
    cls: Any, config: Any, given: dict[str, torch.Tensor]
) -> None:
    torch.manual_seed(0)
    model = cls._from_config(config).eval()
    if model.dtype == torch.bfloat16 and not BFLOAT16:
        pytest.skip("this processor does not compute in bfloat16")
    before = deepcopy(model)
    prepack(model)
    assert packed(model)
    with torch.inference_mode():
        given = {
            name: value.to(model.dtype) if value.is_floating_point() else value
            for name, value in given.items()
        }
        found, expected = model(**given)[0], before(**given)[0]
    assert (found - expected).abs().max() <= TOLERANCE[model.dtype] * expected.abs().max()
    assert weights(model) == weights(before)


@pytest.mark.parametrize("dtype", [torch.float32] + [torch.bfloat16] * BFLOAT16)
@pytest.mark.parametrize("rows", [1, 7, 200])
def test_a_prepacked_layer_takes_any_number_of_rows(dtype: torch.dtype, rows: int) -> None:
    model = nn.Sequential(nn.Linear(50, 70, dtype=dtype), nn.Linear(70, 3, bias=False, dtype=dtype))
    before = deepcopy(model)
    prepack(Loaded(model))
    assert packed(model) == ["0", "1"]
    assert torch.equal(model[0].weight.to_dense(), before[0].weight)
    with torch.inference_mode():
        given = torch.linspace(-1, 1, rows * 50).view(rows, 50).to(dtype)
        found, expected = model(given), before(given)
    assert (found - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max()


class Loaded(nn.Module):
    """A network on the processor, as transformers' models tell their device."""

    device = torch.device("cpu")

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


def test_weights_that_two_layers_share_stay() -> None:
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**SIZE, tie_word_embeddings=True)).eval()
    prepack(model)
    assert packed(model)
    assert "lm_head" not in packed(model)
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_subclasses_and_other_dtypes_stay() -> None:
    class Scaled(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    model = nn.Sequential(Scaled(8, 8), nn.Linear(8, 8), nn.Linear(8, 8, dtype=torch.float16))
    prepack(Loaded(model))
    assert packed(model) == ["1"]


def test_a_torch_without_onednn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> torch.Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", absent)
    with pytest.raises(ModelNotReady, match="this torch or processor cannot do it"):
        prepack(Loaded(nn.Linear(64, 64)))


def test_a_gpu_is_refused() -> None:
    model = Loaded(nn.Linear(8, 8))
    model.device = torch.device("cuda")
    with pytest.raises(ModelNotReady, match="this replica has a GPU"):
        prepack(model)


def test_a_config_prepacks_a_model_and_others_stay() -> None:
    config = ModelConfig(
        module_id=Sentiment.module_id, hf_model=str(tiny.bert()), engine=Engine(prepack=True)
    )
    module = Sentiment()
    module.load(config.checkpoint(None))
    assert packed(module.model)
    plain = loaded(Sentiment.module_id, tiny.bert())
    assert not packed(plain.model)
    inputs = [Sentiment.task.input.model_validate(example) for example in Sentiment.task.examples()]
    pairs = zip(*(answers(one, inputs, Sentiment.task.params()) for one in (module, plain)), strict=True)
    for found, expected in pairs:
        for one, other in zip(found.labels, expected.labels, strict=True):
            assert (one.label, one.score) == (other.label, pytest.approx(other.score, abs=1e-5))


@pytest.mark.parametrize("engine", [{"name": "openvino"}, {"device": "cuda"}])
def test_prepack_is_for_torch_on_a_processor(engine: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"`engine\.prepack` is of the engine torch on processors"):
        ModelConfig(module_id=Sentiment.module_id, engine=Engine(**engine, prepack=True))
