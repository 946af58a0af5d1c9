"""Counting: a task in one file that the tests add to a copy of the project. Its stream is slow on purpose."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from pydantic import Field

from deployments.engines.checkpoint import Checkpoint
from deployments.schema import Schema, Text
from deployments.task import Module, task


class CountingInput(Schema):
    text: Text = Field(description="Written to this file when a stream ends.", examples=["/dev/null"])


class CountingParams(Schema):
    up_to: int = Field(3, ge=1, le=100_000, description="How far to count.")


class CountingOutput(Schema):
    numbers: list[int]


class CountingChunk(Schema):
    number: int


@task("counting")
class Counting(Module):
    """Count, a hundred times a second."""

    module_id = "10101010-1010-1010-1010-101010101010"
    default_model = "example/counting"

    def load(self, checkpoint: Checkpoint) -> None:
        import torch

        self.model = torch.nn.Linear(1, 1)

    def run(self, inputs: list[CountingInput], params: CountingParams) -> list[CountingOutput]:
        return [CountingOutput(numbers=list(range(params.up_to))) for _ in inputs]

    async def stream(
        self, input: CountingInput, params: CountingParams
    ) -> AsyncGenerator[CountingChunk, None]:
        number = 0
        try:
            for number in range(params.up_to):
                await asyncio.sleep(0.01)
                yield CountingChunk(number=number)
        finally:
            _write(input.text, number)


def _write(path: str, number: int) -> None:
    Path(path).write_text(str(number))
