"""OpenVINO as the engine: its outputs equal torch's, or it rejects the network."""

import asyncio
import sys
from copy import deepcopy
from typing import Any

import psutil
import pytest
import torch
import transformers as hf

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.openvino.encoder import compile_encoder
from deployments.engines.openvino.generation import create_runner
from deployments.engines.openvino.network import MIN_BLOCKS, PagedNetwork
from deployments.engines.packing import PACKED_PADDING
from deployments.errors import ModelNotReady
from deployments.task import Module
from deployments.tasks.conversational import Conversational
from deployments.tasks.embeddings import Embeddings
from deployments.tasks.sentence_similarity import SentenceSimilarity
from deployments.tasks.sentiment import Sentiment
from deployments.tasks.text_generation import TextGeneration
from tests.engines.torch.test_generation import is_as_accurate
from tests.engines.torch.test_packed_encoder import (
    PACKED,
    SIZE,
    UNPACKED,
    batch,
    create_network,
    max_error,
    name,
    outputs,
)
from tests.loaded_models import MODELS, answers, loaded
from tests.tiny_models import louder
from tests.waiting import until

pytestmark = pytest.mark.model

LENGTHS = [(3,), (20, 3, 11, 60, 1), (1, 1, 2), (60, 59) * 4]
FOLDERS = [(Embeddings, "embeddings"), (SentenceSimilarity, "sentence_similarity"), (Sentiment, "sentiment")]


@pytest.mark.parametrize(("model_class", "config"), PACKED, ids=name)
def test_encoder_outputs_equal_those_of_torch(model_class: Any, config: Any) -> None:
    model = louder(create_network(model_class, config), 6)
    batches = [batch(*lengths) for lengths in LENGTHS]
    expected = [outputs(model, inputs) for inputs in batches]
    assert compile_encoder(model) == PACKED_PADDING
    for inputs, expected_outputs in zip(batches, expected, strict=True):
        for output, expected_output in zip(outputs(model, inputs), expected_outputs, strict=True):
            assert torch.allclose(output, expected_output, atol=1e-4)


def test_bfloat16_encoder_is_as_accurate_as_torch() -> None:
    model = louder(create_network(hf.BertModel, hf.BertConfig(**SIZE)).bfloat16(), 3)
    exact = deepcopy(model).float()
    batches = [batch(*lengths) for lengths in LENGTHS]
    torch_error = max(max_error(model, exact, inputs) for inputs in batches)
    compile_encoder(model)
    assert max(max_error(model, exact, inputs) for inputs in batches) < 1.5 * torch_error


@torch.inference_mode()
def test_bfloat16_language_model_is_as_accurate_as_torch() -> None:
    model = louder(hf.LlamaForCausalLM(hf.LlamaConfig(**SIZE)).eval().bfloat16(), 3)
    exact = deepcopy(model).float()
    prompts = [[5, 9, 7, 30], [8, 2] * 20, [4]]
    logits, _ = create_runner(model, 0).prefill(prompts)
    assert is_as_accurate(logits, model, exact, prompts)


def test_token_outside_the_vocabulary_raises_index_error() -> None:
    model = create_network(*PACKED[0])
    compile_encoder(model)
    inputs = batch(5, 9)
    inputs["input_ids"][0, 2] = 300
    with pytest.raises(IndexError, match="token 300 of a network with 300"):
        outputs(model, inputs)


@torch.inference_mode()
def test_passes_of_many_sizes_do_not_grow_memory() -> None:
    size = {**SIZE, "hidden_size": 320, "intermediate_size": 864, "num_hidden_layers": 6}
    runner = create_runner(hf.LlamaForCausalLM(hf.LlamaConfig(**size)).eval(), 0)
    resident = psutil.Process().memory_info().rss
    for tokens in range(2, 402):
        runner.prefill([[3] * tokens])
        runner.clear()
    assert psutil.Process().memory_info().rss - resident < 220 * 2**20


def test_next_pass_does_not_overwrite_outputs() -> None:
    model = create_network(*PACKED[0])
    compile_encoder(model)
    first = outputs(model, batch(5, 9))
    copies = [output.clone() for output in first]
    outputs(model, batch(7, 3))
    assert all(torch.equal(output, copy) for output, copy in zip(first, copies, strict=True))


@pytest.mark.parametrize(("model_class", "config"), UNPACKED, ids=name)
def test_encoder_with_unsupported_attention_is_rejected(model_class: Any, config: Any) -> None:
    model = create_network(model_class, config)
    before = outputs(model, batch(9, 4))[0]
    with pytest.raises(ModelNotReady, match="OpenVINO does not support this network: "):
        compile_encoder(model)
    assert torch.equal(outputs(model, batch(9, 4))[0], before)


@pytest.mark.parametrize(("module", "folder"), FOLDERS)
def test_encoder_tasks_give_the_same_outputs_as_torch(module: type[Module], folder: str) -> None:
    openvino_module = module()
    openvino_module.load(Checkpoint(str(MODELS / folder), engine="openvino"))
    inputs = [module.task.input.model_validate(example) for example in module.task.examples()] * 3
    params = module.task.params()
    torch_outputs = answers(loaded(module.module_id, MODELS / folder), inputs, params)
    outputs = answers(openvino_module, inputs, params)
    for output, expected in zip(outputs, torch_outputs, strict=True):
        assert numbers(output.model_dump()) == pytest.approx(numbers(expected.model_dump()), abs=1e-5)


@pytest.mark.parametrize(
    ("module", "folder"), [(TextGeneration, "text_generation"), (Conversational, "conversational")]
)
def test_generation_tasks_give_the_same_outputs_as_torch(module: type[Module], folder: str) -> None:
    openvino_module = module()
    openvino_module.load(Checkpoint(str(MODELS / folder), engine="openvino"))
    inputs = [module.task.input.model_validate(example) for example in module.task.examples()] * 3
    params = module.task.params(do_sample=False, details=True, max_new_tokens=40)
    torch_outputs = answers(loaded(module.module_id, MODELS / folder), inputs, params)
    outputs = answers(openvino_module, inputs, params)
    for output, expected in zip(outputs, torch_outputs, strict=True):
        assert output.generated_text == expected.generated_text
        assert numbers(output.model_dump()) == pytest.approx(numbers(expected.model_dump()), abs=1e-4)


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        children = value.values() if isinstance(value, dict) else value
        return [number for child in children for number in numbers(child)]
    return [value] if isinstance(value, float) else []


def test_openvino_telemetry_is_disabled() -> None:
    compile_encoder(create_network(*PACKED[0]))
    assert sys.modules["openvino_telemetry"] is None


def test_openvino_supports_padding_on_the_left() -> None:
    model = create_network(*PACKED[0])
    compile_encoder(model)
    with torch.inference_mode():
        inputs = batch(9, 4, left=True)
        single = {name: value[1:, 5:] for name, value in inputs.items()}
        assert torch.allclose(model(**inputs)[0][1:, 5:], model(**single)[0], atol=1e-5)


def test_missing_openvino_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelNotReady, match=r"OpenVINO is not installed \(`pip install '.\[openvino\]'`\)"):
        compile_encoder(create_network(*PACKED[0]))


def test_failed_conversion_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openvino.convert_model", lambda *_, **__: 1 / 0)
    with pytest.raises(ModelNotReady, match="OpenVINO does not support this network: division by zero"):
        compile_encoder(create_network(*PACKED[0]))


class LengthDependent(hf.BertModel):
    """A network whose Python code uses the text's length, which becomes a constant in a trace."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.last_hidden_state = output.last_hidden_state * int(kwargs["input_ids"].shape[1])
        return output


def test_encoder_with_length_dependent_code_is_rejected() -> None:
    with pytest.raises(ModelNotReady, match="OpenVINO's outputs differ from torch's"):
        compile_encoder(create_network(LengthDependent, PACKED[0][1]))


def test_model_that_cannot_batch_is_rejected() -> None:
    model = hf.MambaForCausalLM(hf.MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=1)).eval()
    with pytest.raises(ModelNotReady, match="this network: its sequences cannot run in one batch"):
        create_runner(model, 0)


REJECTED = [
    (hf.MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=5), "its attention needs a mask"),
    (hf.StableLmConfig(**SIZE, num_key_value_heads=2), "it does not pass `cu_seq_lens_q` to its attention"),
    (
        hf.GPTJConfig(vocab_size=300, n_embd=32, n_layer=1, n_head=2, rotary_dim=8),
        "its attention cannot be replaced",
    ),
]


@pytest.mark.parametrize(("config", "reason"), REJECTED, ids=lambda value: getattr(value, "model_type", ""))
def test_language_model_with_unsupported_attention_is_rejected(config: Any, reason: str) -> None:
    with pytest.raises(ModelNotReady, match=f"this network: {reason}"):
        create_runner(hf.AutoModelForCausalLM.from_config(config).eval(), 0)


def test_block_pool_is_released_after_single_token_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    module = TextGeneration()
    module.load(Checkpoint(str(MODELS / "text_generation"), engine="openvino"))
    engine: Any = module.generator.engine
    pool = engine.runner.network
    inputs = [module.task.input(text="a b c d e f g h i j k l m n o p q r s t u v w x y z")] * 40
    reserve, sizes = pool.reserve, []
    monkeypatch.setattr(pool, "reserve", lambda blocks: (reserve(blocks), sizes.append(pool.blocks)))
    answers(module, inputs, module.task.params(do_sample=False, max_new_tokens=1))
    asyncio.run(until(lambda: pool.blocks == MIN_BLOCKS))
    assert max(sizes) > MIN_BLOCKS


def test_language_model_with_different_outputs_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PagedNetwork, "__call__", lambda *args: [torch.zeros(len(args[2]), 300)])
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**SIZE)).eval()
    with pytest.raises(ModelNotReady, match="OpenVINO's outputs differ from torch's"):
        create_runner(model, 0)


def test_gpu_is_rejected() -> None:
    with torch.device("meta"):
        model = create_network(*PACKED[0])
    with pytest.raises(ModelNotReady, match="OpenVINO runs on CPUs"):
        compile_encoder(model)
