"""One sequence of a running batch: its prompt, its generated tokens and the callback for its updates."""

import asyncio
from collections.abc import Callable

from deployments.generation.output import GeneratedChunk, GenerationOutput, to_chunks
from deployments.generation.settings import SampledToken, SamplingSettings

Update = list[GeneratedChunk] | Exception | None
"""What a sequence's caller receives: new chunks of a stream, None at the end, or the error it failed with."""


class Sequence:
    """A prompt with the tokens that continue it, its `output` and its `settings`.

    The engine calls `on_update` with each `Update` in the event loop `loop`. It sets `finished` when the
    output is complete or has failed; an abort sets it as well. `max_length` is the most tokens that the
    sequence may have, prompt included. `arrival_index` counts the sequences in the order of arrival.
    """

    loop: asyncio.AbstractEventLoop
    on_update: Callable[[Update], None]
    arrival_index: int

    def __init__(self, output: GenerationOutput, settings: SamplingSettings) -> None:
        self.output, self.settings = output, settings
        self.prompt = list(output.prompt)
        self.generated: list[int] = []
        self.max_length = len(self.prompt) + output.max_new_tokens
        self.is_streaming = self.finished = False

    @property
    def length(self) -> int:
        """The number of tokens so far, prompt included."""
        return len(self.prompt) + len(self.generated)

    @property
    def token_ids(self) -> list[int]:
        """The prompt's tokens, then the generated ones."""
        return self.prompt + self.generated

    def append_token(self, token: SampledToken) -> list[GeneratedChunk]:
        """Append the next token; return the chunks whose text is now final, if the sequence streams."""
        self.generated.append(token.id)
        final_tokens = self.output.append_token(*token)
        self.finished = self.finished or self.output.finish_reason is not None
        return list(to_chunks(self.output, final_tokens)) if self.is_streaming else []
