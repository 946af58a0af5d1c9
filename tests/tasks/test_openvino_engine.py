"""OpenVINO as the engine: its answers are torch's."""

import sys
from typing import Any

import pytest
import torch
import transformers as hf

from deployments import openvino_engine
from deployments.checkpoint import Checkpoint
from deployments.errors import ModelNotReady
from deployments.packing import PACKED_PADDING, pack
from deployments.task import Module
from deployments.tasks.embeddings import Embeddings
from deployments.tasks.sentence_similarity import SentenceSimilarity
from deployments.tasks.sentiment import Sentiment
from tests.tasks.conftest import MODELS, answers, loaded
from tests.tasks.test_packing import PACKED, UNPACKED, batch, name, network, outputs

FOLDERS = [(Embeddings, "embeddings"), (SentenceSimilarity, "sentence_similarity"), (Sentiment, "sentiment")]


@pytest.mark.parametrize(
    ("make", "config", "padding_cost"),
    [*((*one, PACKED_PADDING) for one in PACKED), *((*one, 1.0) for one in UNPACKED[1:])],
    ids=name,
)
def test_answers_are_those_of_torch(make: Any, config: Any, padding_cost: float) -> None:
    model = network(make, config)
    batches = [batch(*lengths) for lengths in ((3,), (20, 3, 11, 60, 1), (1, 1, 2), (60, 59) * 4)]
    tolerance = 1e-5 if model.dtype == torch.float32 else 5e-2
    expected = [outputs(model, given) for given in batches]
    assert openvino_engine.compile(model) == padding_cost
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


def test_a_pass_with_much_to_pad_is_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(*PACKED[0])
    openvino_engine.compile(model)
    monkeypatch.setattr(openvino_engine._Compiled, "__call__", lambda *_, **__: None)
    with torch.inference_mode():
        assert model(**batch(9)) is model(**batch(9, 9, 1)) is None
        assert model(**batch(9, 9, 9, 8, 1)).last_hidden_state.shape == (5, 9, 32)


@pytest.mark.parametrize(("module", "folder"), FOLDERS)
def test_a_config_names_it(module: type[Module], folder: str) -> None:
    ours = module()
    ours.load(Checkpoint(str(MODELS / folder), engine="openvino"))
    inputs = [module.task.input.model_validate(example) for example in module.task.examples()] * 3
    params = module.task.params()
    theirs = answers(loaded(module.module_id, MODELS / folder), inputs, params)
    for found, expected in zip(answers(ours, inputs, params), theirs, strict=True):
        assert numbers(found.model_dump()) == pytest.approx(numbers(expected.model_dump()), abs=1e-5)


def numbers(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        return [
            one for part in (value.values() if isinstance(value, dict) else value) for one in numbers(part)
        ]
    return [value] if isinstance(value, float) else []


def test_it_tells_nobody_of_its_use() -> None:
    openvino_engine.compile(network(*PACKED[0]))
    assert sys.modules["openvino_telemetry"] is None


def test_padding_on_the_left_is_torch_s() -> None:
    model, packed = network(*PACKED[0]), network(*PACKED[0])
    openvino_engine.compile(model)
    pack(packed)
    left = batch(9, 4, left=True)
    assert torch.allclose(outputs(model, left)[0], outputs(packed, left)[0], atol=1e-5)


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


def test_it_wants_a_processor() -> None:
    with torch.device("meta"):
        model = network(*PACKED[0])
    with pytest.raises(ModelNotReady, match="OpenVINO runs on processors"):
        openvino_engine.compile(model)
