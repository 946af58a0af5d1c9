"""OpenVINO as the engine: its answers are torch's."""

import sys
from typing import Any

import pytest
import torch
import transformers as hf

from deployments import openvino_engine
from deployments.checkpoint import Checkpoint
from deployments.errors import ModelNotReady
from deployments.generating.paged import paged
from deployments.packing import PACKED_PADDING
from deployments.paging import Paged
from deployments.task import Module
from deployments.tasks.conversational import Conversational
from deployments.tasks.embeddings import Embeddings
from deployments.tasks.sentence_similarity import SentenceSimilarity
from deployments.tasks.sentiment import Sentiment
from deployments.tasks.text_generation import TextGeneration
from tests.tasks.conftest import MODELS, answers, loaded
from tests.tasks.test_packing import PACKED, SIZE, UNPACKED, batch, name, network, outputs

FOLDERS = [(Embeddings, "embeddings"), (SentenceSimilarity, "sentence_similarity"), (Sentiment, "sentiment")]


HALF = UNPACKED[-1]


@pytest.mark.parametrize(("make", "config"), [*PACKED, HALF], ids=name)
def test_answers_are_those_of_torch(make: Any, config: Any) -> None:
    model = network(make, config)
    batches = [batch(*lengths) for lengths in ((3,), (20, 3, 11, 60, 1), (1, 1, 2), (60, 59) * 4)]
    tolerance = 1e-5 if model.dtype == torch.float32 else 5e-2
    expected = [outputs(model, given) for given in batches]
    assert openvino_engine.compile(model) == PACKED_PADDING
    for given, theirs in zip(batches, expected, strict=True):
        for found, one in zip(outputs(model, given), theirs, strict=True):
            assert torch.allclose(found.float(), one.float(), atol=tolerance)


def test_an_answer_outlives_the_next() -> None:
    model = network(*PACKED[0])
    openvino_engine.compile(model)
    first = outputs(model, batch(5, 9))
    kept = [one.clone() for one in first]
    outputs(model, batch(7, 3))
    assert all(torch.equal(one, before) for one, before in zip(first, kept, strict=True))


@pytest.mark.parametrize(("make", "config"), UNPACKED[:-1], ids=name)
def test_a_network_whose_attention_is_another_is_refused(make: Any, config: Any) -> None:
    model = network(make, config)
    before = outputs(model, batch(9, 4))[0]
    with pytest.raises(ModelNotReady, match="OpenVINO does not run this network; torch may: "):
        openvino_engine.compile(model)
    assert torch.equal(outputs(model, batch(9, 4))[0], before)


@pytest.mark.parametrize(("module", "folder"), FOLDERS)
def test_a_config_names_it(module: type[Module], folder: str) -> None:
    ours = module()
    ours.load(Checkpoint(str(MODELS / folder), engine="openvino"))
    inputs = [module.task.input.model_validate(example) for example in module.task.examples()] * 3
    params = module.task.params()
    theirs = answers(loaded(module.module_id, MODELS / folder), inputs, params)
    for found, expected in zip(answers(ours, inputs, params), theirs, strict=True):
        assert numbers(found.model_dump()) == pytest.approx(numbers(expected.model_dump()), abs=1e-5)


@pytest.mark.parametrize(
    ("module", "folder"), [(TextGeneration, "text_generation"), (Conversational, "conversational")]
)
def test_what_it_writes_is_what_torch_does(module: type[Module], folder: str) -> None:
    ours = module()
    ours.load(Checkpoint(str(MODELS / folder), engine="openvino"))
    inputs = [module.task.input.model_validate(example) for example in module.task.examples()] * 3
    params = module.task.params(do_sample=False, details=True, max_new_tokens=40)
    theirs = answers(loaded(module.module_id, MODELS / folder), inputs, params)
    for found, expected in zip(answers(ours, inputs, params), theirs, strict=True):
        assert found.generated_text == expected.generated_text
        assert numbers(found.model_dump()) == pytest.approx(numbers(expected.model_dump()), abs=1e-4)


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        return [
            one for part in (value.values() if isinstance(value, dict) else value) for one in numbers(part)
        ]
    return [value] if isinstance(value, float) else []


def test_it_tells_nobody_of_its_use() -> None:
    openvino_engine.compile(network(*PACKED[0]))
    assert sys.modules["openvino_telemetry"] is None


def test_padding_may_be_on_the_left() -> None:
    model = network(*PACKED[0])
    openvino_engine.compile(model)
    with torch.inference_mode():
        given = batch(9, 4, left=True)
        alone = {name: value[1:, 5:] for name, value in given.items()}
        assert torch.allclose(model(**given)[0][1:, 5:], model(**alone)[0], atol=1e-5)


def test_without_openvino_the_reason_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelNotReady, match=r"OpenVINO is not installed \(`pip install '.\[openvino\]'`\)"):
        openvino_engine.compile(network(*PACKED[0]))


def test_a_network_that_it_cannot_run_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openvino.convert_model", lambda *_, **__: 1 / 0)
    with pytest.raises(
        ModelNotReady, match="OpenVINO does not run this network; torch may: division by zero"
    ):
        openvino_engine.compile(network(*PACKED[0]))


class OfItsLength(hf.BertModel):
    """Its Python looks at a text's length, of which a tracer keeps what it was."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        found = super().forward(*args, **kwargs)
        found.last_hidden_state = found.last_hidden_state * int(kwargs["input_ids"].shape[1])
        return found


def test_a_network_whose_trace_does_not_hold_for_other_lengths_is_refused() -> None:
    with pytest.raises(ModelNotReady, match="OpenVINO's answers are not torch's"):
        openvino_engine.compile(network(OfItsLength, PACKED[0][1]))


def test_rows_that_cannot_run_together_are_refused() -> None:
    model = hf.MambaForCausalLM(hf.MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=1)).eval()
    with pytest.raises(ModelNotReady, match="torch may: its answers do not run together"):
        paged(model, 0)


def test_rows_with_a_window_are_refused() -> None:
    config = hf.MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=5)
    with pytest.raises(ModelNotReady, match="torch may: tokens that see more, or less"):
        paged(hf.MistralForCausalLM(config).eval(), 0)


def test_a_language_model_whose_answers_are_others_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Paged, "__call__", lambda _, given, pieces: [torch.zeros(len(pieces), 300)])
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**SIZE)).eval()
    with pytest.raises(ModelNotReady, match="OpenVINO's answers are not torch's"):
        paged(model, 0)


def test_it_wants_a_processor() -> None:
    with torch.device("meta"):
        model = network(*PACKED[0])
    with pytest.raises(ModelNotReady, match="OpenVINO runs on processors"):
        openvino_engine.compile(model)
