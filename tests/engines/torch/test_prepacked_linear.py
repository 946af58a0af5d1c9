"""`engine.prepack`: linear layers with oneDNN's weight layout give the same outputs."""

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

pytestmark = pytest.mark.model

SIZE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "vocab_size": 300,
}  # fmt: skip
T5 = {"vocab_size": 300, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
IMAGES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
IDS = {"input_ids": torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])}
PIXELS = {"pixel_values": torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)}

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # of the largest number

BFLOAT16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""Whether this CPU supports bfloat16."""

MODELS = [
    (hf.BertModel, hf.BertConfig(**SIZE), IDS),
    (hf.BertModel, hf.BertConfig(**SIZE, dtype="bfloat16"), IDS),
    (hf.LlamaForCausalLM, hf.LlamaConfig(**SIZE, tie_word_embeddings=False), IDS),
    (hf.T5ForConditionalGeneration, hf.T5Config(**T5), IDS | {"decoder_input_ids": IDS["input_ids"]}),
    (hf.ViTForImageClassification, hf.ViTConfig(**IMAGES, image_size=32, patch_size=8), PIXELS),
]


def prepacked_layers(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if type(module).__name__ == "PrepackedLinear"]


def weight_metadata(model: nn.Module) -> set[Any]:
    return {(name, w.shape, w.dtype, w.device) for name, w in model.named_parameters()}


@pytest.mark.parametrize(
    ("cls", "config", "inputs"), MODELS, ids=lambda value: getattr(value, "__name__", " ")
)
def test_prepacked_models_give_the_same_outputs(
    cls: Any, config: Any, inputs: dict[str, torch.Tensor]
) -> None:
    torch.manual_seed(0)
    model = cls._from_config(config).eval()
    if model.dtype == torch.bfloat16 and not BFLOAT16:
        pytest.skip("this CPU does not support bfloat16")
    before = deepcopy(model)
    prepack(model)
    assert prepacked_layers(model)
    with torch.inference_mode():
        inputs = {
            name: value.to(model.dtype) if value.is_floating_point() else value
            for name, value in inputs.items()
        }
        output, expected = model(**inputs)[0], before(**inputs)[0]
    assert (output - expected).abs().max() <= TOLERANCE[model.dtype] * expected.abs().max()
    assert weight_metadata(model) == weight_metadata(before)


@pytest.mark.parametrize("dtype", [torch.float32] + [torch.bfloat16] * BFLOAT16)
@pytest.mark.parametrize("tokens", [1, 7, 200])
def test_prepacked_layer_supports_any_number_of_tokens(dtype: torch.dtype, tokens: int) -> None:
    model = nn.Sequential(nn.Linear(50, 70, dtype=dtype), nn.Linear(70, 3, bias=False, dtype=dtype))
    before = deepcopy(model)
    prepack(ModelOnCpu(model))
    assert prepacked_layers(model) == ["0", "1"]
    assert torch.equal(model[0].weight.to_dense(), before[0].weight)
    with torch.inference_mode():
        inputs = torch.linspace(-1, 1, tokens * 50).view(tokens, 50).to(dtype)
        output, expected = model(inputs), before(inputs)
    assert (output - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max()


class ModelOnCpu(nn.Module):
    """A network with the `device` of transformers' models."""

    device = torch.device("cpu")

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


def test_shared_weights_are_not_prepacked() -> None:
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**SIZE, tie_word_embeddings=True)).eval()
    prepack(model)
    assert prepacked_layers(model)
    assert "lm_head" not in prepacked_layers(model)
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_subclasses_and_other_dtypes_are_not_prepacked() -> None:
    class Scaled(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    model = nn.Sequential(Scaled(8, 8), nn.Linear(8, 8), nn.Linear(8, 8, dtype=torch.float16))
    prepack(ModelOnCpu(model))
    assert prepacked_layers(model) == ["1"]


def test_torch_without_onednn_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> torch.Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", absent)
    with pytest.raises(ModelNotReady, match="needs another torch or CPU"):
        prepack(ModelOnCpu(nn.Linear(64, 64)))


def test_gpu_is_rejected() -> None:
    model = ModelOnCpu(nn.Linear(8, 8))
    model.device = torch.device("cuda")
    with pytest.raises(ModelNotReady, match="this replica has a GPU"):
        prepack(model)


def test_config_prepacks_only_its_model() -> None:
    config = ModelConfig(
        module_id=Sentiment.module_id, hf_model=str(tiny.bert()), engine=Engine(prepack=True)
    )
    module = Sentiment()
    module.load(config.checkpoint(None))
    assert prepacked_layers(module.model)
    plain = loaded(Sentiment.module_id, tiny.bert())
    assert not prepacked_layers(plain.model)
    inputs = [Sentiment.task.input.model_validate(example) for example in Sentiment.task.examples()]
    pairs = zip(*(answers(model, inputs, Sentiment.task.params()) for model in (module, plain)), strict=True)
    for output, expected in pairs:
        for label, same in zip(output.labels, expected.labels, strict=True):
            assert (label.label, label.score) == (same.label, pytest.approx(same.score, abs=1e-5))


@pytest.mark.parametrize("engine", [{"name": "openvino"}, {"device": "cuda"}])
def test_prepack_requires_torch_on_a_cpu(engine: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"`engine\.prepack` applies to torch on the CPU only"):
        ModelConfig(module_id=Sentiment.module_id, engine=Engine(**engine, prepack=True))
