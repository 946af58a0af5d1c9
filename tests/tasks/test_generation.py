"""Text generation and conversation: seeds, stops, limits, streams."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from deployments.completion import Generated, Token
from deployments.errors import InvalidInput
from deployments.tasks.conversational import Conversational, ConversationalInput
from deployments.tasks.text_generation import TextGeneration, TextGenerationInput, TextGenerationParams
from tests.tasks import tiny
from tests.tasks.conftest import loaded, starter
from tests.tasks.samples import LONG, user

PROMPTS = ["Once upon a time", "I", "The quick brown fox jumps over the lazy dog", "Hello! How"]
SAMPLED = {"temperature": 1.2, "max_new_tokens": 12, "details": True}


@pytest.fixture(params=["starter", "gpt2"])
def writer(request: pytest.FixtureRequest) -> TextGeneration:
    if request.param == "starter":
        return starter(TextGeneration.module_id)
    return loaded(TextGeneration.module_id, tiny.gpt2())


def write(module: TextGeneration, *prompts: str, **params: Any) -> list[Generated]:
    return module.run([TextGenerationInput(text=text) for text in prompts], TextGenerationParams(**params))


def talk(module: Conversational, *messages: dict[str, str], **params: Any) -> Generated:
    params = module.task.params(**{"max_new_tokens": 8, "do_sample": False, "details": True, **params})
    return module.run([ConversationalInput(messages=list(messages))], params)[0]


def test_greedy_answers_are_those_of_plain_generate(writer: TextGeneration) -> None:
    batch = writer.tokenizer(PROMPTS[0], return_tensors="pt")
    plain = hf.GenerationConfig(max_new_tokens=10, do_sample=False, pad_token_id=0)
    [ids] = writer.model.generate(**batch, generation_config=plain)
    [answer] = write(writer, PROMPTS[0], max_new_tokens=10, do_sample=False, details=True)
    assert [token.id for token in answer.details.tokens] == ids[batch["input_ids"].shape[1] :].tolist()


def test_log_probabilities_are_the_model_s_own(writer: TextGeneration) -> None:
    [answer] = write(writer, PROMPTS[0], seed=3, **SAMPLED)
    prompt = writer.tokenizer(PROMPTS[0])["input_ids"]
    ids = torch.tensor([prompt + [token.id for token in answer.details.tokens]])
    with torch.inference_mode():
        expected = writer.model(ids).logits[0].log_softmax(-1)
    for place, token in enumerate(answer.details.tokens, len(prompt) - 1):
        assert token.logprob == pytest.approx(expected[place, token.id].item(), abs=1e-3)


def test_a_seed_gives_the_same_answer_alone_and_in_any_batch(writer: TextGeneration) -> None:
    together = write(writer, *PROMPTS, seed=11, **SAMPLED)
    reversed_ = write(writer, *PROMPTS[::-1], seed=11, **SAMPLED)[::-1]
    assert [answer.generated_text for answer in together] == [answer.generated_text for answer in reversed_]
    for prompt, answer in zip(PROMPTS, together, strict=True):
        [alone] = write(writer, prompt, seed=11, **SAMPLED)
        assert alone.generated_text == answer.generated_text
    other = write(writer, *PROMPTS, seed=12, **SAMPLED)
    assert [answer.generated_text for answer in together] != [answer.generated_text for answer in other]


def test_without_a_seed_answers_differ_and_tell_theirs(writer: TextGeneration) -> None:
    answers = write(writer, *["Once upon a time"] * 4, **SAMPLED)
    assert len({answer.generated_text for answer in answers}) > 1
    for answer in answers:
        [again] = write(writer, "Once upon a time", seed=answer.details.seed, **SAMPLED)
        assert again.generated_text == answer.generated_text


def test_the_global_random_state_is_left_alone(writer: TextGeneration) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    write(writer, *PROMPTS, **SAMPLED)
    assert torch.equal(before, torch.get_rng_state())


def test_draws_follow_the_model_s_distribution() -> None:
    """A thousand seeded first tokens, against the softmax; five standard deviations of slack."""
    module = loaded(TextGeneration.module_id, tiny.gpt2())
    ids = module.tokenizer("I", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = (module.model(ids).logits[0, -1] / 0.8).softmax(-1)
    params = {"temperature": 0.8, "max_new_tokens": 1, "details": True}
    drawn = [answer.details.tokens[0].id for answer in write(module, *["I"] * 1000, **params)]
    share = torch.bincount(torch.tensor(drawn), minlength=len(expected)) / len(drawn)
    slack = 5 * (expected * (1 - expected) / len(drawn)).sqrt() + 1e-3
    assert ((share - expected).abs() < slack).all()


@pytest.mark.parametrize("greedy", [{"temperature": 0}, {"temperature": 0, "do_sample": True}, {"top_k": 1}])
def test_no_choice_is_greedy(writer: TextGeneration, greedy: dict[str, Any]) -> None:
    assert write(writer, *PROMPTS, max_new_tokens=9, **greedy) == write(
        writer, *PROMPTS, max_new_tokens=9, do_sample=False
    )


def test_stop_strings_end_an_answer(writer: TextGeneration) -> None:
    [free] = write(writer, PROMPTS[0], max_new_tokens=12, do_sample=False)
    stop = free.generated_text[4:7]
    params = TextGenerationParams(max_new_tokens=12, do_sample=False, stop=[stop], details=True)
    [answer] = writer.run([TextGenerationInput(text=PROMPTS[0])], params)
    assert answer.generated_text == free.generated_text.split(stop)[0]
    assert answer.details.finish_reason == "stop_sequence"
    chunks = list(writer.stream(TextGenerationInput(text=PROMPTS[0]), params))
    assert "".join(c.token.text for c in chunks if not c.token.special) == answer.generated_text


def test_rows_of_a_batch_end_on_their_own(writer: TextGeneration) -> None:
    alone = [write(writer, p, max_new_tokens=12, do_sample=False)[0].generated_text for p in PROMPTS]
    stop = alone[0][3:5]
    answers = write(writer, *PROMPTS, max_new_tokens=12, do_sample=False, stop=[stop])
    assert [answer.generated_text for answer in answers] == [text.split(stop)[0] for text in alone]


def test_long_prompts_lose_their_beginning(writer: TextGeneration) -> None:
    answers = write(writer, LONG, "Hello", LONG[3:], max_new_tokens=10, do_sample=False, details=True)
    assert all(answer.details.generated_tokens <= 10 for answer in answers)
    [endless] = write(writer, LONG, max_new_tokens=100_000, do_sample=False, details=True)
    assert endless.details.generated_tokens <= writer.max_length // 2
    [short] = write(writer, "Hello", max_new_tokens=100_000, do_sample=False, details=True)
    assert short.details.generated_tokens < writer.max_length


def test_truncate_keeps_the_prompt_s_end(writer: TextGeneration) -> None:
    [tail] = list(writer.stream(
        TextGenerationInput(text=PROMPTS[2]), TextGenerationParams(max_new_tokens=1, truncate=3)
    ))  # fmt: skip
    assert tail.details.input_length == 3


def test_the_full_text_begins_with_the_prompt(writer: TextGeneration) -> None:
    short = {"max_new_tokens": 5, "do_sample": False}
    [part], [full] = (
        write(writer, PROMPTS[0], **short),
        write(writer, PROMPTS[0], return_full_text=True, **short),
    )
    assert full.generated_text == PROMPTS[0] + part.generated_text


def test_a_repetition_penalty_ignores_padding(writer: TextGeneration) -> None:
    params = {"repetition_penalty": 1.8, "max_new_tokens": 8, "do_sample": False}
    together = write(writer, *PROMPTS, **params)
    assert together == [write(writer, prompt, **params)[0] for prompt in PROMPTS]


def test_generate_has_nothing_to_say(writer: TextGeneration, caplog: pytest.LogCaptureFixture) -> None:
    hf.logging.enable_propagation()
    try:
        write(writer, *PROMPTS, LONG, **SAMPLED, top_k=5, top_p=0.9, typical_p=0.9, repetition_penalty=1.1)
        list(writer.stream(TextGenerationInput(text="Hi"), TextGenerationParams(**SAMPLED)))
    finally:
        hf.logging.disable_propagation()
    assert not caplog.messages


def test_settings_of_the_checkpoint_hold_until_others_are_given(tmp_path: Path) -> None:
    special = {"text-generation": {"do_sample": True, "max_length": 50, "temperature": 1.5}}
    module = loaded(TextGeneration.module_id, tiny.causal(task_specific_params=special))
    [answer] = write(module, "Hello", details=True)
    prompt = len(module.tokenizer("Hello")["input_ids"])
    assert answer.details.seed is not None
    assert answer.details.generated_tokens == 50 - prompt or answer.details.finish_reason == "eos_token"
    assert write(module, "Hello", details=True, do_sample=False)[0].details.seed is None


class TestStream:
    """Streams as such; what they say is tested for every task."""

    def module(self) -> TextGeneration:
        return loaded(TextGeneration.module_id, tiny.gpt2())

    def test_closing_ends_the_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module, steps = self.module(), []
        forward = module.model.forward

        def slow(*args: Any, **kwargs: Any) -> Any:
            steps.append(time.sleep(0.02))
            return forward(*args, **kwargs)

        monkeypatch.setattr(module.model, "forward", slow)
        stream = module.stream(TextGenerationInput(text="I"), TextGenerationParams(max_new_tokens=50))
        next(stream), next(stream)
        before = len(steps)
        stream.close()
        assert len(steps) <= before + 1
        assert not [thread for thread in threading.enumerate() if thread.name == "generate"]

    def test_an_error_inside_arrives_outside(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module, count = self.module(), iter(range(99))
        forward = module.model.forward

        def breaking(*args: Any, **kwargs: Any) -> Any:
            if next(count) == 3:
                raise RuntimeError("out of memory")
            return forward(*args, **kwargs)

        monkeypatch.setattr(module.model, "forward", breaking)
        came = []
        with pytest.raises(RuntimeError, match="out of memory"):
            came.extend(module.stream(TextGenerationInput(text="I"), TextGenerationParams()))
        assert not [thread for thread in threading.enumerate() if thread.name == "generate"]

    def test_two_at_once_do_not_mix(self) -> None:
        module, params = self.module(), TextGenerationParams(seed=3, temperature=1.0, max_new_tokens=20)
        alone = [module.run([TextGenerationInput(text=p)], params)[0].generated_text for p in PROMPTS]
        streams = [module.stream(TextGenerationInput(text=prompt), params) for prompt in PROMPTS]
        texts = [""] * len(streams)
        while streams_left := [place for place, stream in enumerate(streams) if stream]:
            for place in streams_left:
                chunk = next(streams[place], None)
                if chunk is None:
                    streams[place] = None
                elif chunk.generated_text is not None:
                    texts[place] = chunk.generated_text
        assert texts == alone

    def test_one_that_nobody_reads_starts_nothing(self) -> None:
        self.module().stream(TextGenerationInput(text="I"), TextGenerationParams()).close()
        assert not [thread for thread in threading.enumerate() if thread.name == "generate"]


@pytest.mark.parametrize("bad", [
    {"temperature": -1}, {"temperature": float("nan")}, {"top_k": 0}, {"top_p": 0}, {"top_p": 1.1},
    {"typical_p": 0}, {"repetition_penalty": 0}, {"max_new_tokens": 0}, {"stop": [""]}, {"stop": ["a"] * 99},
    {"seed": -1}, {"truncate": 0}, {"unknown": 1},
])  # fmt: skip
def test_bad_parameters_are_told_before_anything_runs(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        TextGenerationParams(**bad)


class TestConversation:
    def test_the_chat_template_is_applied(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = loaded(Conversational.module_id, tiny.chatty())
        seen = self.prompts(module, monkeypatch)
        talk(module, *user("Hello!", "Hi.", "How are you?"))
        assert seen == ["<user>Hello!</s><assistant>Hi.</s><user>How are you?</s><assistant>"]

    def test_without_a_template_turns_end_as_dialogpt_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = loaded(Conversational.module_id, tiny.gpt2())
        seen = self.prompts(module, monkeypatch)
        talk(module, *user("Hello!", "Hi.", "How are you?"))
        assert seen == ["Hello!</s>Hi.</s>How are you?</s>"]

    def prompts(self, module: Conversational, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        seen: list[str] = []
        run = module.generator.run

        def spy(prompts: list[list[int]], params: Any) -> Any:
            seen.extend(module.tokenizer.decode(prompt) for prompt in prompts)
            return run(prompts, params)

        monkeypatch.setattr(module.generator, "run", spy)
        return seen

    def test_what_the_template_refuses_is_the_caller_s_fault(self) -> None:
        module = loaded(Conversational.module_id, tiny.chatty())
        with pytest.raises(InvalidInput, match="system comes first"):
            talk(module, *user("Hello!"), {"role": "system", "content": "Be kind."})

    def test_dialogpt_s_own_length_counts_the_prompt(self) -> None:
        folder = tiny.causal(task_specific_params={"conversational": {"max_length": 50}})
        module = loaded(Conversational.module_id, folder)
        [answer] = module.run(
            [ConversationalInput(messages=user("Hello!"))], module.task.params(do_sample=False, details=True)
        )
        assert answer.details.finish_reason == "eos_token" or answer.details.generated_tokens > 32

    def test_a_lone_string_is_a_user_s_turn(self) -> None:
        assert ConversationalInput(messages="Hello!").messages[0].role == "user"


def test_a_token_is_small_on_the_wire() -> None:
    token = Token(id=1, text="a", logprob=-0.5, special=False)
    assert token.model_dump_json() == '{"id":1,"text":"a","logprob":-0.5,"special":false}'
