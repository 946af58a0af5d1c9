"""OpenVINO as the engine: its answers are torch's."""

import sys
from typing import Any

import pytest
import torch

from deployments import openvino_engine
from deployments.checkpoint import Checkpoint
from deployments.errors import ModelNotReady
from deployments.packing import PACKED_PADDING
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


def test_where_torch_pads_as_well_it_holds_no_weights_and_still_tells_of_them() -> None:
    model = network(*UNPACKED[1])
    told = [(weight.shape, weight.dtype) for weight in model.parameters()]
    openvino_engine.compile(model)
    assert [(weight.shape, weight.dtype) for weight in model.parameters()] == told
    assert all(weight.untyped_storage().nbytes() <= 4 for weight in model.parameters())


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


def test_without_openvino_the_config_is_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelNotReady, match=r"`engine.name` is openvino, which is not installed"):
        openvino_engine.compile(network(*PACKED[0]))


def test_a_network_that_it_cannot_run_is_not_ready() -> None:
    with pytest.raises(ModelNotReady, match="OpenVINO does not run this network: "):
        openvino_engine.compile(network(*UNPACKED[0]))


def test_other_answers_than_torch_s_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(*PACKED[0])
    monkeypatch.setattr(openvino_engine, "TOLERANCE", 0.0)
    with pytest.raises(ModelNotReady, match="OpenVINO answers otherwise than torch"):
        openvino_engine.compile(model)


def test_it_wants_a_processor() -> None:
    with torch.device("meta"):
        model = network(*PACKED[0])
    with pytest.raises(ModelNotReady, match="which runs on processors"):
        openvino_engine.compile(model)
