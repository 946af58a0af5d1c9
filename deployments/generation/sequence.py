"""One answer while it grows in a batch: what was read, how its tokens are chosen, and who hears of them."""

import asyncio
from collections.abc import Callable

from deployments.generation.output import Answer, GeneratedChunk, chunks
from deployments.generation.settings import Choice, Wishes

News = list[GeneratedChunk] | Exception | None
"""What a row's caller hears: chunks as they come (of a stream), None at the end, or why it failed."""


class Row:
    """An `answer` in the making, and the `wishes` by which its tokens are chosen.

    `hear` is called in the event loop `loop` with `News`. `ended` is set by the engine when the answer is
    whole or has failed, and by the caller who no longer waits for it. `longest` is how many tokens it may
    come to, prompt included. `number` is its place among all that were ever asked for.
    """

    loop: asyncio.AbstractEventLoop
    hear: Callable[[News], None]
    number: int

    def __init__(self, answer: Answer, wishes: Wishes) -> None:
        self.answer, self.wishes = answer, wishes
        self.prompt = list(answer.prompt)
        self.generated: list[int] = []
        self.longest = len(self.prompt) + answer.budget
        self.streams = self.ended = False

    @property
    def length(self) -> int:
        """How many tokens it has so far, prompt included."""
        return len(self.prompt) + len(self.generated)

    @property
    def ids(self) -> list[int]:
        """All of its tokens so far."""
        return self.prompt + self.generated

    def push(self, choice: Choice) -> list[GeneratedChunk]:
        """Take the next token; return the chunks that are now clear, if the answer streams."""
        self.generated.append(choice.token)
        clear = self.answer.push(*choice)
        self.ended = self.ended or self.answer.finish_reason is not None
        return list(chunks(self.answer, clear)) if self.streams else []
