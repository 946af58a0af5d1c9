"""Text generation and conversation: seeds, stops, limits, streams."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from deployments.errors import ContextLengthExceeded, InvalidInput
from deployments.generation.output import Generated, GeneratedChunk, Token
from deployments.tasks.text_generation import TextGeneration, TextGenerationInput, TextGenerationParams
from tests import tiny_models as tiny
from tests.loaded_models import loaded, starter
from tests.samples import LONG

pytestmark = pytest.mark.model

PROMPTS = ["Once upon a time", "I", "The quick brown fox jumps over the lazy dog", "Hello! How"]
SAMPLED = {"temperature": 1.2, "max_new_tokens": 12, "details": True}


@pytest.fixture(params=["starter", "gpt2"])
def writer(request: pytest.FixtureRequest) -> TextGeneration:
    if request.param == "starter":
        return starter(TextGeneration.module_id)
    return loaded(TextGeneration.module_id, tiny.gpt2())


async def write(module: TextGeneration, *prompts: str, **params: Any) -> list[Generated]:
    return await module.run(
        [TextGenerationInput(text=text) for text in prompts], TextGenerationParams(**params)
    )


async def heard(module: TextGeneration, prompt: str, **params: Any) -> list[GeneratedChunk]:
    stream = module.stream(TextGenerationInput(text=prompt), TextGenerationParams(**params))
    return [chunk async for chunk in stream]


async def test_greedy_output_matches_transformers_generate(writer: TextGeneration) -> None:
    batch = writer.tokenizer(PROMPTS[0], return_tensors="pt")
    plain = hf.GenerationConfig(max_new_tokens=10, do_sample=False, pad_token_id=0)
    [ids] = writer.model.generate(**batch, generation_config=plain)
    [answer] = await write(writer, PROMPTS[0], max_new_tokens=10, do_sample=False, details=True)
    assert [token.id for token in answer.details.tokens] == ids[batch["input_ids"].shape[1] :].tolist()


async def test_logprobs_match_the_model(writer: TextGeneration) -> None:
    [answer] = await write(writer, PROMPTS[0], seed=3, **SAMPLED)
    prompt = writer.tokenizer(PROMPTS[0])["input_ids"]
    ids = torch.tensor([prompt + [token.id for token in answer.details.tokens]])
    with torch.inference_mode():
        expected = writer.model(ids).logits[0].log_softmax(-1)
    for place, token in enumerate(answer.details.tokens, len(prompt) - 1):
        assert token.logprob == pytest.approx(expected[place, token.id].item(), abs=1e-3)


async def test_seeded_output_is_independent_of_the_batch(writer: TextGeneration) -> None:
    together = await write(writer, *PROMPTS, seed=11, **SAMPLED)
    reversed_ = (await write(writer, *PROMPTS[::-1], seed=11, **SAMPLED))[::-1]
    assert [answer.generated_text for answer in together] == [answer.generated_text for answer in reversed_]
    for prompt, answer in zip(PROMPTS, together, strict=True):
        [alone] = await write(writer, prompt, seed=11, **SAMPLED)
        assert alone.generated_text == answer.generated_text
    other = await write(writer, *PROMPTS, seed=12, **SAMPLED)
    assert [answer.generated_text for answer in together] != [answer.generated_text for answer in other]


async def test_unseeded_outputs_differ_and_report_their_seed(writer: TextGeneration) -> None:
    answers = await write(writer, *["Once upon a time"] * 4, **SAMPLED)
    assert len({answer.generated_text for answer in answers}) > 1
    for answer in answers:
        [again] = await write(writer, "Once upon a time", seed=answer.details.seed, **SAMPLED)
        assert again.generated_text == answer.generated_text


async def test_global_random_state_is_unchanged(writer: TextGeneration) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    await write(writer, *PROMPTS, **SAMPLED)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("greedy", [{"temperature": 0}, {"temperature": 0, "do_sample": True}, {"top_k": 1}])
async def test_default_decoding_is_greedy(writer: TextGeneration, greedy: dict[str, Any]) -> None:
    assert await write(writer, *PROMPTS, max_new_tokens=9, **greedy) == await write(
        writer, *PROMPTS, max_new_tokens=9, do_sample=False
    )


async def test_stop_strings_end_generation(writer: TextGeneration) -> None:
    [free] = await write(writer, PROMPTS[0], max_new_tokens=12, do_sample=False)
    stop = free.generated_text[4:7]
    params = {"max_new_tokens": 12, "do_sample": False, "stop": [stop], "details": True}
    [answer] = await write(writer, PROMPTS[0], **params)
    assert answer.generated_text == free.generated_text.split(stop)[0]
    assert answer.details.finish_reason == "stop_sequence"
    chunks = await heard(writer, PROMPTS[0], **params)
    assert "".join(c.token.text for c in chunks if not c.token.special) == answer.generated_text


async def test_sequences_of_a_batch_end_independently(writer: TextGeneration) -> None:
    alone = [(await write(writer, p, max_new_tokens=12, do_sample=False))[0].generated_text for p in PROMPTS]
    stop = alone[0][3:5]
    answers = await write(writer, *PROMPTS, max_new_tokens=12, do_sample=False, stop=[stop])
    assert [answer.generated_text for answer in answers] == [text.split(stop)[0] for text in alone]


async def test_prompt_over_the_context_is_refused_unless_it_may_be_truncated(writer: TextGeneration) -> None:
    with pytest.raises(ContextLengthExceeded, match=f"at most {writer.max_length - 1}"):
        await write(writer, LONG, max_new_tokens=10)
    answers = await write(
        writer, LONG, "Hello", max_new_tokens=10, truncate=10**6, do_sample=False, details=True
    )
    assert all(answer.details.generated_tokens <= 10 for answer in answers)
    [endless] = await write(
        writer, LONG, max_new_tokens=100_000, truncate=10**6, do_sample=False, details=True
    )
    assert endless.details.generated_tokens <= writer.max_length // 2
    [short] = await write(writer, "Hello", max_new_tokens=100_000, do_sample=False, details=True)
    assert short.details.generated_tokens < writer.max_length


@pytest.mark.parametrize(("size", "wanted", "read", "written"), [
    (40, None, 40, 24), (40, 64, 40, 24), (63, 64, 63, 1),
    (64, 64, 48, 16), (99, 5, 59, 5), (99, None, 48, 16),
])  # fmt: skip
async def test_a_prompt_is_truncated_only_if_it_does_not_fit(
    size: int, wanted: int | None, read: int, written: int
) -> None:
    module = loaded(TextGeneration.module_id, tiny.gpt2())
    params = TextGenerationParams(max_new_tokens=wanted, truncate=10**6)
    output = module.generator._sequence([7] * size, params).output
    assert (len(output.prompt), output.max_new_tokens) == (read, written)
    params = TextGenerationParams(max_new_tokens=wanted)
    if size < 64:
        assert module.generator._sequence([7] * size, params).output.prompt == output.prompt
    else:
        with pytest.raises(ContextLengthExceeded, match=f"{size} tokens; this model reads at most 63"):
            module.generator._sequence([7] * size, params)


async def test_truncate_keeps_the_end_of_the_prompt(writer: TextGeneration) -> None:
    [tail] = await heard(writer, PROMPTS[2], max_new_tokens=1, truncate=3, details=True)
    assert tail.details.input_length == 3


async def test_details_of_a_stream_come_only_if_requested(writer: TextGeneration) -> None:
    *_, last = await heard(writer, PROMPTS[0], max_new_tokens=3)
    assert last.details is None and last.generated_text


async def test_max_length_counts_the_prompt(writer: TextGeneration) -> None:
    ids = writer.tokenizer(PROMPTS[0])["input_ids"]
    [answer] = await write(writer, PROMPTS[0], max_length=len(ids) + 3, do_sample=False, details=True)
    assert answer.details.generated_tokens == 3
    with pytest.raises(InvalidInput, match="max_length") as refused:
        await write(writer, PROMPTS[0], max_length=len(ids))
    assert refused.value.field == "max_length"


async def test_token_ids_are_read_as_they_are(writer: TextGeneration) -> None:
    ids = [token for letter in PROMPTS[0] * 2 for token in writer.tokenizer(letter)["input_ids"]]
    item = TextGenerationInput(text=PROMPTS[0]).with_token_ids(ids)
    assert len(ids) > len(writer.tokenizer(PROMPTS[0])["input_ids"])
    [answer] = await writer.run([item], TextGenerationParams(max_new_tokens=1, details=True))
    assert answer.details.input_length == len(ids)
    assert pickle.loads(pickle.dumps(item)).token_ids == ids


async def test_return_full_text_includes_the_prompt(writer: TextGeneration) -> None:
    short = {"max_new_tokens": 5, "do_sample": False}
    [part], [full] = (
        await write(writer, PROMPTS[0], **short),
        await write(writer, PROMPTS[0], return_full_text=True, **short),
    )
    assert full.generated_text == PROMPTS[0] + part.generated_text
    chunks = await heard(writer, PROMPTS[0], return_full_text=True, **short)
    assert "".join(c.token.text for c in chunks if not c.token.special) == part.generated_text
    assert [c.generated_text for c in chunks if c.generated_text is not None] == [full.generated_text]


async def test_repetition_penalty_ignores_padding(writer: TextGeneration) -> None:
    params = {"repetition_penalty": 1.8, "max_new_tokens": 8, "do_sample": False}
    together = await write(writer, *PROMPTS, **params)
    assert together == [(await write(writer, prompt, **params))[0] for prompt in PROMPTS]


async def test_generation_raises_no_transformers_warnings(
    writer: TextGeneration, caplog: pytest.LogCaptureFixture
) -> None:
    hf.logging.enable_propagation()
    try:
        await write(
            writer,
            *PROMPTS,
            LONG,
            **SAMPLED,
            truncate=10**6,
            top_k=5,
            top_p=0.9,
            typical_p=0.9,
            repetition_penalty=1.1,
        )
        await heard(writer, "Hi", **SAMPLED)
    finally:
        hf.logging.disable_propagation()
    assert not caplog.messages


async def test_checkpoint_generation_defaults_apply(tmp_path: Path) -> None:
    special = {"text-generation": {"do_sample": True, "max_length": 50, "temperature": 1.5}}
    module = loaded(TextGeneration.module_id, tiny.causal(task_specific_params=special))
    [answer] = await write(module, "Hello", details=True)
    prompt = len(module.tokenizer("Hello")["input_ids"])
    assert answer.details.seed is not None
    assert answer.details.generated_tokens == 50 - prompt or answer.details.finish_reason == "eos_token"
    assert (await write(module, "Hello", details=True, do_sample=False))[0].details.seed is None


@pytest.mark.parametrize(
    ("repeated", "counted", "present"), [(1.2, 0.9, 0.4), (1.0, 0.0, 2.0), (1.0, 2.0, 0.0)]
)
async def test_penalties_count_generated_tokens(
    writer: TextGeneration, repeated: float, counted: float, present: float
) -> None:
    """By OpenAI's definition, step by step, on logits of the whole text."""
    prompt = "Once upon a time there was a cat. Once upon a time there was a"
    params = {"repetition_penalty": repeated, "frequency_penalty": counted, "presence_penalty": present}
    [answer] = await write(writer, prompt, **params, max_new_tokens=15, do_sample=False, details=True)
    read = answer.details.input_length
    ids = writer.tokenizer(prompt)["input_ids"][-read:]
    for token in answer.details.tokens:
        with torch.no_grad():
            scores = writer.model(torch.tensor([ids])).logits[0, -1]
        known = torch.tensor(ids)
        scores[known] = torch.where(scores[known] < 0, scores[known] * repeated, scores[known] / repeated)
        written = torch.tensor(ids[read:], dtype=torch.long).bincount(minlength=len(scores))
        scores = scores - counted * written - present * (written > 0)
        assert token.id == scores.argmax().item()
        ids.append(token.id)


async def test_repetition_penalty_matches_generate(writer: TextGeneration) -> None:
    batch = writer.tokenizer(PROMPTS[2], return_tensors="pt")
    plain = hf.GenerationConfig(
        max_new_tokens=12, do_sample=False, repetition_penalty=1.3, pad_token_id=0, eos_token_id=None
    )
    [ids] = writer.model.generate(**batch, generation_config=plain)
    params = {"repetition_penalty": 1.3, "max_new_tokens": 12, "do_sample": False, "details": True}
    [answer] = await write(writer, PROMPTS[2], **params)
    chosen = [token.id for token in answer.details.tokens]
    assert chosen == ids[batch["input_ids"].shape[1] :].tolist()[: len(chosen)]


async def test_top_tokens_at_each_position(writer: TextGeneration) -> None:
    params = {"top_n_tokens": 4, "max_new_tokens": 6, "seed": 5, "temperature": 1.5, "details": True}
    [answer] = await write(writer, PROMPTS[0], **params)
    ids = writer.tokenizer(PROMPTS[0])["input_ids"]
    assert len(answer.details.top_tokens) == len(answer.details.tokens)
    for token, top in zip(answer.details.tokens, answer.details.top_tokens, strict=True):
        with torch.inference_mode():
            best = writer.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1).topk(4)
        assert [one.id for one in top] == best.indices.tolist()
        assert [one.logprob for one in top] == pytest.approx(best.values.tolist(), abs=1e-3)
        assert all(one.text == token.text for one in top if one.id == token.id)
        ids.append(token.id)
    chunks = await heard(writer, PROMPTS[0], **params)
    assert [chunk.top_tokens for chunk in chunks] == answer.details.top_tokens


async def test_top_tokens_are_absent_by_default(writer: TextGeneration) -> None:
    params = {"max_new_tokens": 2, "details": True}
    [answer] = await write(writer, PROMPTS[0], **params)
    assert answer.details.top_tokens is None
    assert all(chunk.top_tokens is None for chunk in await heard(writer, PROMPTS[0], **params))


RULES = {"no_repeat_ngram_size": 2, "suppress_tokens": [40, 41], "bad_words_ids": [[50], [60, 61]]}


@pytest.mark.parametrize("rule", [*RULES, "begin_suppress_tokens"])
async def test_checkpoint_generation_rules_apply(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = loaded(TextGeneration.module_id, tiny.gpt2())
    params = {"max_new_tokens": 20, "do_sample": False, "details": True}
    free = (await write(module, "I", **params))[0].details.tokens
    value = RULES.get(rule, [free[0].id])
    monkeypatch.setattr(module.model.generation_config, rule, value)
    batch = module.tokenizer("I", return_tensors="pt")
    plain = hf.GenerationConfig(max_new_tokens=20, do_sample=False, pad_token_id=0)
    [ids] = module.model.generate(**batch, generation_config=plain)
    [bound, _] = await write(module, "I", "Hello! How are you?", **params)
    assert [token.id for token in bound.details.tokens] == ids[batch["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("bad", [
    {"temperature": -1}, {"temperature": float("nan")}, {"top_k": 0}, {"top_p": 0}, {"top_p": 1.1},
    {"typical_p": 0}, {"repetition_penalty": 0}, {"max_new_tokens": 0}, {"stop": [""]}, {"stop": ["a"] * 99},
    {"seed": -1}, {"truncate": 0}, {"unknown": 1}, {"frequency_penalty": 2.1}, {"presence_penalty": -2.1},
    {"top_n_tokens": 21},
])  # fmt: skip
def test_invalid_parameters_are_refused_before_generation(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        TextGenerationParams(**bad)


def test_stream_chunk_is_small_when_pickled() -> None:
    token = Token(id=1, text="a", logprob=-0.5, special=False)
    assert token.model_dump_json() == '{"id":1,"text":"a","logprob":-0.5,"special":false}'
