"""The prompt of a conversation, by the checkpoint's chat template."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from deployments.errors import InvalidInput
from deployments.schema import Message

PROBE = "vaqoxu"  # a text that no template has by itself


class ChatTemplate:
    """Applies the chat template of a tokenizer, or else DialoGPT's format: each turn, then the end token."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def prompt(self, messages: Iterable[Message]) -> list[int]:
        """Return the token ids after which the reply begins. Raises `InvalidInput` if the template does."""
        if self._tokenizer.chat_template is None:
            end = self._tokenizer.eos_token or "\n"
            text = "".join(message.content + end for message in messages)
            ids: list[int] = self._tokenizer(text, verbose=False)["input_ids"]
            return ids
        return self._apply(messages)

    def _apply(self, messages: Iterable[Message]) -> list[int]:
        from jinja2 import TemplateError

        try:
            ids: list[int] = self._tokenizer.apply_chat_template(
                [{"role": message.role, "content": self._content(message.content)} for message in messages],
                add_generation_prompt=True,
                return_dict=False,
                tokenizer_kwargs={"verbose": False},
            )
        except TemplateError as error:
            raise InvalidInput(f"this model's chat template refuses the conversation: {error}") from error
        return ids

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self._iterates_over_parts else text

    @cached_property
    def _iterates_over_parts(self) -> bool:
        """Whether the template shows a text only as a content part; of a plain text it shows nothing."""
        return not self._shows(PROBE) and self._shows([{"type": "text", "text": PROBE}])

    def _shows(self, content: Any) -> bool:
        from jinja2 import TemplateError

        try:
            text = self._tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        except (TemplateError, TypeError):  # the template expects the other kind of content
            return False
        return PROBE in text
