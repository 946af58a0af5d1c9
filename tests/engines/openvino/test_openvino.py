"""OpenVINO as the engine: its answers are torch's."""

import asyncio
import sys
from copy import deepcopy
from typing import Any

import psutil
import pytest
import torch
import transformers as hf

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.openvino import encoder as openvino_engine
from deployments.engines.openvino.generation import paged
from deployments.engines.openvino.network import LEAST_BLOCKS, Paged
from deployments.engines.packing import PACKED_PADDING
from deployments.errors import ModelNotReady
from deployments.task import Module
from deployments.tasks.conversational import Conversational
from deployments.tasks.embeddings import Embeddings
from deployments.tasks.sentence_similarity import SentenceSimilarity
from deployments.tasks.sentiment import Sentiment
from deployments.tasks.text_generation import TextGeneration
from tests.engines.torch.test_generation import as_near
from tests.engines.torch.test_packed_encoder import (
    PACKED,
    SIZE,
    UNPACKED,
    batch,
    furthest,
    name,
    network,
    outputs,
)
from tests.loaded_models import MODELS, answers, loaded
from tests.tiny_models import louder
from tests.waiting import until

pytestmark = pytest.mark.model  # loads weights: `make check` leaves these to `make test`

LENGTHS = [(3,), (20, 3, 11, 60, 1), (1, 1, 2), (60, 59) * 4]
FOLDERS = [(Embeddings, "embeddings"), (SentenceSimilarity, "sentence_similarity"), (Sentiment, "sentiment")]


@pytest.mark.parametrize(("make", "config"), PACKED, ids=name)
def test_answers_are_those_of_torch(make: Any, config: Any) -> None:
    model = louder(network(make, config), 6)
    batches = [batch(*lengths) for lengths in LENGTHS]
    expected = [outputs(model, given) for given in batches]
    assert openvino_engine.compile(model) == PACKED_PADDING
    for given, theirs in zip(batches, expected, strict=True):
        for found, one in zip(outputs(model, given), theirs, strict=True):
            assert torch.allclose(found, one, atol=1e-4)


def test_in_bfloat16_answers_are_as_near_as_torch_s() -> None:
    model = louder(network(hf.BertModel, hf.BertConfig(**SIZE)).bfloat16(), 3)
    exact = deepcopy(model).float()
    batches = [batch(*lengths) for lengths in LENGTHS]
    usual = max(furthest(model, exact, given) for given in batches)
    openvino_engine.compile(model)
    assert max(furthest(model, exact, given) for given in batches) < 1.5 * usual


@torch.inference_mode()
def test_a_language_model_in_bfloat16_is_as_near_as_torch_s() -> None:
    model = louder(hf.LlamaForCausalLM(hf.LlamaConfig(**SIZE)).eval().bfloat16(), 3)
    exact = deepcopy(model).float()
    rows = [[5, 9, 7, 30], [8, 2] * 20, [4]]
    found, _ = paged(model, 0).read(rows)
    assert as_near(found, model, exact, rows)


def test_a_token_that_the_network_does_not_know_is_refused_as_by_torch() -> None:
    model = network(*PACKED[0])
    openvino_engine.compile(model)
    given = batch(5, 9)
    given["input_ids"][0, 2] = 300
    with pytest.raises(IndexError, match="token 300 of a network with 300"):
        outputs(model, given)


@torch.inference_mode()
def test_what_it_keeps_does_not_grow_with_each_number_of_tokens() -> None:
    size = {**SIZE, "hidden_size": 320, "intermediate_size": 864, "num_hidden_layers": 6}
    rows = paged(hf.LlamaForCausalLM(hf.LlamaConfig(**size)).eval(), 0)
    resident = psutil.Process().memory_info().rss
    for tokens in range(2, 402):
        rows.read([[3] * tokens])
        rows.clear()
    assert psutil.Process().memory_info().rss - resident < 220 * 2**20


def test_an_answer_outlives_the_next() -> None:
    model = network(*PACKED[0])
    openvino_engine.compile(model)
    first = outputs(model, batch(5, 9))
    kept = [one.clone() for one in first]
    outputs(model, batch(7, 3))
    assert all(torch.equal(one, before) for one, before in zip(first, kept, strict=True))


@pytest.mark.parametrize(("make", "config"), UNPACKED, ids=name)
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


REFUSED = [
    (hf.MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=5), "tokens that see more, or less"),
    (hf.StableLmConfig(**SIZE, num_key_value_heads=2), "its attention is not told what is in a pass"),
    (
        hf.GPTJConfig(vocab_size=300, n_embd=32, n_layer=1, n_head=2, rotary_dim=8),
        "its attention cannot be replaced",
    ),
]


@pytest.mark.parametrize(("config", "reason"), REFUSED, ids=lambda value: getattr(value, "model_type", ""))
def test_rows_whose_attention_is_another_are_refused(config: Any, reason: str) -> None:
    with pytest.raises(ModelNotReady, match=f"torch may: {reason}"):
        paged(hf.AutoModelForCausalLM.from_config(config).eval(), 0)


def test_the_memory_of_answers_that_end_at_once_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = TextGeneration()
    ours.load(Checkpoint(str(MODELS / "text_generation"), engine="openvino"))
    pool = ours.generator.engine.network.network
    inputs = [ours.task.input(text="a b c d e f g h i j k l m n o p q r s t u v w x y z")] * 40
    reserve, most = pool.reserve, []
    monkeypatch.setattr(pool, "reserve", lambda blocks: (reserve(blocks), most.append(pool.blocks)))
    answers(ours, inputs, ours.task.params(do_sample=False, max_new_tokens=1))
    asyncio.run(until(lambda: pool.blocks == LEAST_BLOCKS))
    assert max(most) > LEAST_BLOCKS


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
