"""Summarization: lengths, beams, seeds, the checkpoint's own settings, the Hub's nested parameters."""

from typing import Any

import pytest
import transformers as hf

from deployments.errors import InvalidInput
from deployments.tasks.summarization import Summarization, SummarizationInput, SummarizationParams
from tests import tiny_models as tiny
from tests.loaded_models import answers, loaded, starter
from tests.samples import LONG

pytestmark = pytest.mark.model

TEXTS = [example["text"] for example in Summarization.task.examples()] + ["Fog in Paris."]


@pytest.fixture(scope="module")
def module() -> Summarization:
    return starter(Summarization.module_id)


def shorten(module: Summarization, *texts: str, **params: Any) -> list[str]:
    inputs = [SummarizationInput(text=text) for text in texts]
    outputs = answers(module, inputs, SummarizationParams(**params))
    return [output.summary_text for output in outputs]


@pytest.mark.parametrize("params", [{"do_sample": False}, {"num_beams": 3}])
def test_summary_matches_transformers_generate(module: Summarization, params: dict[str, Any]) -> None:
    batch = module.tokenizer(TEXTS[0], return_tensors="pt")
    ids = module.model.generate(**batch, generation_config=hf.GenerationConfig(max_new_tokens=15, **params))
    expected = module.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
    assert shorten(module, TEXTS[0], max_new_tokens=15, **params) == [expected]


@pytest.mark.parametrize("params", [{}, {"num_beams": 4}, {"temperature": 1.5, "seed": 4}])
def test_batch_neighbours_do_not_change_outputs(module: Summarization, params: dict[str, Any]) -> None:
    together = shorten(module, *TEXTS, **params)
    assert together == [shorten(module, text, **params)[0] for text in TEXTS]


def test_summary_length_limits(module: Summarization) -> None:
    tokens = [len(module.tokenizer(text)["input_ids"]) for text in shorten(module, *TEXTS, max_new_tokens=3)]
    assert max(tokens) <= 4
    [long] = shorten(module, TEXTS[0], min_new_tokens=30, max_new_tokens=30)
    assert len(module.tokenizer(long)["input_ids"]) > 15
    assert shorten(module, TEXTS[0], min_new_tokens=99, max_new_tokens=5)
    assert shorten(module, TEXTS[0], max_new_tokens=100_000)


@pytest.mark.parametrize("params", [
    {"max_length": 8}, {"max_length": 8, "min_length": 3}, {"min_length": 25, "max_length": 30},
    {"max_length": 12, "num_beams": 3, "length_penalty": -5.0},
    {"max_length": 12, "num_beams": 3, "length_penalty": 5.0},
])  # fmt: skip
def test_lengths_of_the_hub_mean_what_they_mean_in_transformers(
    module: Summarization, params: dict[str, Any]
) -> None:
    batch = module.tokenizer(TEXTS[0], return_tensors="pt")
    settings = hf.GenerationConfig(do_sample=False, **{"num_beams": 1, **params})
    ids = module.model.generate(**batch, generation_config=settings)
    expected = module.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
    assert shorten(module, TEXTS[0], do_sample=False, **params) == [expected]


def test_seed_makes_sampling_reproducible(module: Summarization) -> None:
    draw = {"temperature": 2.0, "max_new_tokens": 12}
    assert shorten(module, TEXTS[0], seed=1, **draw) == shorten(module, TEXTS[0], seed=1, **draw)
    assert len({shorten(module, TEXTS[0], **draw)[0] for _ in range(6)}) > 1


def test_beams_and_sampling_are_mutually_exclusive(module: Summarization) -> None:
    with pytest.raises(InvalidInput, match="num_beams"):
        shorten(module, TEXTS[0], num_beams=2, do_sample=True)


def test_long_text_is_truncated_or_refused(module: Summarization) -> None:
    assert shorten(module, LONG) == shorten(module, LONG * 2)
    with pytest.raises(InvalidInput, match="at most"):
        shorten(module, LONG, truncation="do_not_truncate")


def test_nested_generate_parameters_are_merged() -> None:
    nested = SummarizationParams(generate_parameters={"num_beams": 2, "max_new_tokens": 9}, seed=3)
    assert nested == SummarizationParams(num_beams=2, max_new_tokens=9, seed=3)
    with pytest.raises(ValueError, match="nonsense"):
        SummarizationParams(generate_parameters={"nonsense": 1})


def test_checkpoint_settings_apply() -> None:
    own = {"prefix": "summarize: ", "max_length": 7, "min_length": 7, "num_beams": 2, "length_penalty": 2.0}
    special = loaded(Summarization.module_id, tiny.seq2seq(task_specific_params={"summarization": own}))
    bare = loaded(Summarization.module_id, tiny.seq2seq())
    assert special.model.generation_config.length_penalty == 2.0
    length = {"min_new_tokens": 6, "max_new_tokens": 6}
    assert shorten(special, "Hello!", num_beams=1) == shorten(
        bare, "summarize: Hello!", num_beams=1, **length
    )


def test_generate_raises_no_warnings(module: Summarization, caplog: pytest.LogCaptureFixture) -> None:
    hf.logging.enable_propagation()
    try:
        shorten(module, *TEXTS, LONG, temperature=0.7, top_k=5)
        shorten(module, *TEXTS, num_beams=2, min_new_tokens=50, max_new_tokens=9)
    finally:
        hf.logging.disable_propagation()
    assert not caplog.messages
