"""Generating for OpenAI's callers: their settings in the house's words, and several answers at once.

OpenAI draws with temperature 1 where a request does not say. Here the checkpoint decides what is not given:
it may say to draw in its own way, or to take the best token each time. `temperature: 0` always takes the
best; more than one choice is drawn, unless that is said.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Discriminator, Field, Tag

from deployments.errors import InvalidInput, TooLarge
from deployments.schema import MAX_ITEMS, Schema
from deployments.task import Task
from deployments.wire.openai.requests import (
    Ability,
    Asked,
    OpenAIRequest,
    Unsupported,
    one_or_several,
    outputs_of,
    read_items,
)

if TYPE_CHECKING:
    from deployments.routing.router import Router

SEEDS = 2**63  # so many are the tasks' seeds, from 0; callers' are 64 bits, signed
MAX_STREAMS = 64  # each holds a request to a replica open
DONE = b"[DONE]"
SAME = ("temperature", "top_p", "repetition_penalty", "frequency_penalty", "presence_penalty")
"""Settings that the tasks call by the same name."""

FinishReason = Literal["stop", "length"]
T = TypeVar("T")
_END = object()

Stop = Annotated[
    Annotated[str, Tag("one")] | Annotated[list[str], Field(max_length=MAX_ITEMS), Tag("several")],
    Discriminator(one_or_several),
]


class Generating(OpenAIRequest):
    """How a text is generated. What is not given, the checkpoint decides."""

    temperature: float | None = Field(None, description="0 always takes the best token; at most 2.")
    top_p: float | None = None
    top_k: int | None = Field(None, description="Draw among so many tokens; 0 or -1 for all.")
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = Field(
        None, ge=-SEEDS, le=SEEDS - 1, description="The same seed gives the same answer; it may be negative."
    )
    stop: Stop | None = Field(None, description="What ends the answer, and is no part of it.")
    stream: bool | None = None
    logit_bias: Unsupported = None

    @property
    def count(self) -> int:
        """How many answers there are to be, to each input."""
        return 1

    def settings(self) -> dict[str, tuple[str, Any]]:
        """By the task's name of each parameter: the caller's, and its value."""
        return {
            **{name: (name, getattr(self, name)) for name in SAME},
            "seed": ("seed", None if self.seed is None else self.seed % SEEDS),
            "do_sample": ("n", True if self.count > 1 else None),
            "top_k": ("top_k", None if self.top_k in (0, -1) else self.top_k),
            "stop": ("stop", [self.stop] if isinstance(self.stop, str) else self.stop),
            "details": ("details", True),
        }


class StreamOptions(Asked):
    """What a stream tells besides."""

    include_usage: bool | None = Field(None, description="The usage, in a last chunk without choices.")


class Choosing(Generating):
    """What chat and completions have in common."""

    max_tokens: int | None = None
    n: int | None = Field(
        None, ge=1, le=16, description="How many answers; from a seed, each has its own: seed, seed + 1, ..."
    )
    stream_options: StreamOptions | None = None

    @property
    def count(self) -> int:
        return self.n or 1

    @property
    def tells_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionUsage(BaseModel):
    """Tokens, counted by the model; a prompt counts once, however many answers it has."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Writes(Ability):
    """The ability to generate text, and to tell how it came about."""

    def field(self, task: Task) -> str | None:
        return super().field(task) if "details" in task.params.model_fields else None


@dataclass(frozen=True)
class Choices:
    """Answers to be generated: to each input one with each of `params`. Their places: the first input's,
    then the second's, and so on. `param` is what callers call the inputs."""

    router: "Router"
    model_id: str
    inputs: list[Schema]
    params: list[Schema]
    param: str

    async def whole(self) -> list[Any]:
        """All outputs by their places. One that fails fails all."""
        asked = (self.router.infer(self.model_id, self.inputs, params) for params in self.params)
        columns = [outputs_of(answers, self.param) for answers in await together(asked)]
        return [output for row in zip(*columns, strict=True) for output in row]

    def stream(self) -> AsyncGenerator[tuple[int, Any], None]:
        """Chunks of all answers as they come, each with its answer's place."""
        return merge(
            [
                self.router.stream(self.model_id, input_, params)
                for input_ in self.inputs
                for params in self.params
            ]
        )

    def usage(self, details: Sequence[Any]) -> CompletionUsage:
        """What all answers took; `details` are theirs, by their places."""
        prompt = sum(one.input_length for one in details[:: len(self.params)])
        completion = sum(one.generated_tokens for one in details)
        return CompletionUsage(
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
        )


async def choices(
    router: "Router", model_id: str, ability: Ability, values: list[Any], asked: Generating, param: str
) -> Choices:
    """The answers that are asked for, ready to be generated; callers know the `values` as `param`.

    Raises `TaskMismatch`, `InvalidInput`, `TooLarge`.
    """
    task = router.task(model_id)
    field = ability.require(task, model_id)
    if asked.stream and task.chunk is None:
        raise InvalidInput(f"`stream`: an answer of {task.name} cannot stream", field="stream")
    count, most = len(values) * asked.count, MAX_STREAMS if asked.stream else MAX_ITEMS
    if count > most:
        raise TooLarge(f"{count:,} answers are asked for at once; at most {most:,} may be")
    settings = asked.settings()
    params = {name: value for name, (_, value) in settings.items() if value is not None}
    names = {field: param} | {name: theirs for name, (theirs, _) in settings.items()}
    inputs, first = await read_items(router, task, [{field: value} for value in values], params, names)
    return Choices(router, model_id, inputs, _seeded(first, asked.seed, asked.count), param)


def finish_reason(details: Any) -> FinishReason:
    return "length" if details.finish_reason == "length" else "stop"


def visible(token: Any) -> str:
    """What a token adds to the text."""
    return "" if token.special else token.text


def head(router: "Router", model_id: str, prefix: str) -> dict[str, Any]:
    """What every answer begins with. The fingerprint is the revision of the model's weights."""
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "created": int(time.time()),
        "model": model_id,
        "system_fingerprint": router.card(model_id).revision,
    }


async def together(asked: Iterable[Awaitable[T]]) -> list[T]:
    """All results, in order; where one fails, the rest is not waited for."""
    running = [asyncio.ensure_future(one) for one in asked]
    try:
        return await asyncio.gather(*running)
    finally:
        for one in running:
            one.cancel()


async def merge(streams: Sequence[AsyncGenerator[Any, None]]) -> AsyncGenerator[tuple[int, Any], None]:
    """The chunks of all `streams` as they come, each with its stream's place; none gets ahead of the others
    while these have chunks too. Closing it closes them all."""
    pulling = {_next(stream): place for place, stream in enumerate(streams)}
    try:
        while pulling:
            done, _ = await asyncio.wait(pulling, return_when=asyncio.FIRST_COMPLETED)
            for pulled in sorted(done, key=pulling.__getitem__):
                chunk, place = pulled.result(), pulling.pop(pulled)
                if chunk is not _END:
                    yield place, chunk
                    pulling[_next(streams[place])] = place
    finally:
        for pulled in pulling:
            pulled.cancel()
        await asyncio.gather(*pulling, return_exceptions=True)
        await asyncio.gather(*(stream.aclose() for stream in streams))


def _next(stream: AsyncGenerator[Any, None]) -> "asyncio.Future[Any]":
    return asyncio.ensure_future(anext(stream, _END))


def _seeded(params: Schema, seed: int | None, count: int) -> list[Schema]:
    if seed is None:
        return [params] * count
    return [params.model_copy(update={"seed": (seed + place) % SEEDS}) for place in range(count)]
