"""Conversation: by the model's own template, or as DialoGPT was trained."""

from typing import Any

import pytest

from deployments.errors import InvalidInput, TooLarge
from deployments.generation.output import Generated
from deployments.pipelines.chat_template import ChatTemplate
from deployments.schema import Message
from deployments.tasks.conversational import Conversational, ConversationalInput
from tests import tiny_models as tiny
from tests.loaded_models import loaded
from tests.samples import user

pytestmark = pytest.mark.model


async def talk(module: Conversational, *messages: dict[str, str], **params: Any) -> Generated:
    params = module.task.params(**{"max_new_tokens": 8, "do_sample": False, "details": True, **params})
    [answer] = await module.run([ConversationalInput(messages=list(messages))], params)
    return answer


async def test_chat_template_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    module = loaded(Conversational.module_id, tiny.chatty())
    seen = heard_by(module, monkeypatch)
    await talk(module, *user("Hello!", "Hi.", "How are you?"))
    assert seen == ["<user>Hello!</s><assistant>Hi.</s><user>How are you?</s><assistant>"]


async def test_without_chat_template_turns_end_with_eos(monkeypatch: pytest.MonkeyPatch) -> None:
    module = loaded(Conversational.module_id, tiny.gpt2())
    seen = heard_by(module, monkeypatch)
    await talk(module, *user("Hello!", "Hi.", "How are you?"))
    assert seen == ["Hello!</s>Hi.</s>How are you?</s>"]


async def test_empty_turn_keeps_its_position(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [{"role": "system", "content": ""}, *user("Hello!", "", "Are you there?")]
    for folder, prompt in (
        (tiny.chatty(), "<system></s><user>Hello!</s><assistant></s><user>Are you there?</s><assistant>"),
        (tiny.gpt2(), "</s>Hello!</s></s>Are you there?</s>"),
    ):
        module = loaded(Conversational.module_id, folder)
        seen = heard_by(module, monkeypatch)
        await talk(module, *said)
        assert seen == [prompt]


def test_empty_last_turn_is_refused() -> None:
    with pytest.raises(InvalidInput, match="last turn is empty"):
        ConversationalInput(messages=user("Hello!", "Hi.", ""))
    with pytest.raises(TooLarge):
        ConversationalInput(messages=user("x" * 1_000_001))


def heard_by(module: Conversational, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    run = module.generator.run

    async def spy(prompts: list[list[int]], params: Any) -> Any:
        seen.extend(module.tokenizer.decode(prompt) for prompt in prompts)
        return await run(prompts, params)

    monkeypatch.setattr(module.generator, "run", spy)
    return seen


async def test_template_error_is_invalid_input() -> None:
    module = loaded(Conversational.module_id, tiny.chatty())
    with pytest.raises(InvalidInput, match="system comes first"):
        await talk(module, *user("Hello!"), {"role": "system", "content": "Be kind."})


async def test_dialogpt_max_length_counts_the_prompt() -> None:
    folder = tiny.causal(task_specific_params={"conversational": {"max_length": 50}})
    module = loaded(Conversational.module_id, folder)
    params = module.task.params(do_sample=False, details=True)
    [answer] = await module.run([ConversationalInput(messages=user("Hello!"))], params)
    assert answer.details.finish_reason == "eos_token" or answer.details.generated_tokens > 32


def test_string_is_one_user_turn() -> None:
    assert ConversationalInput(messages="Hello!").messages[0].role == "user"


PARTS_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{% for part in m.content %}{% if part.type == 'text' %}"
    "{{ part.text }}{% endif %}{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
EITHER_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
STRICT_TEMPLATE = (
    "{% for m in messages %}{% if m.content is string %}{{ raise_exception('parts, please') }}{% endif %}"
    "{{ m.content[0].text }}</s>{% endfor %}"
)


@pytest.mark.parametrize("template", [tiny.TEMPLATE, PARTS_TEMPLATE, EITHER_TEMPLATE, STRICT_TEMPLATE])
def test_every_text_reaches_the_model_whatever_content_the_template_expects(template: str) -> None:
    tokenizer = tiny.byte_bpe()
    tokenizer.chat_template = template
    texts = ["How are you?", "Fine.", "And my name is Anna."]
    turns = [
        Message(role=role, content=text)
        for role, text in zip(("user", "assistant", "user"), texts, strict=True)
    ]
    prompt = tokenizer.decode(ChatTemplate(tokenizer).prompt(turns))
    assert all(text in prompt for text in texts)
