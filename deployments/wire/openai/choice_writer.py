"""Answer a request for completions, of a chat or of a text: all choices at once, or a stream of chunks."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from deployments.wire.openai.errors import event_of
from deployments.wire.openai.generation import DONE, Choices, Choosing, head
from deployments.wire.openai.requests import respond_with
from deployments.wire.sse import event_stream

MAX_TOP_LOGPROBS = 20
LEAST_LOGPROB = -9999.0  # JSON has no infinity


class ChoiceWriter(Protocol):
    """Writes the choices of one request, and remembers what it has streamed of each.

    `prefix` begins the id, `whole` and `chunk` are the types of an answer and of a piece of one.
    """

    prefix: str
    whole: type[BaseModel]
    chunk: type[BaseModel]

    def choice(self, place: int, output: Any) -> BaseModel:
        """Return the whole choice at `place`."""
        ...

    def pieces(self, place: int, chunk: Any) -> Sequence[BaseModel]:
        """Return what a stream says of one chunk of the choice at `place`."""
        ...


async def write_choices(
    request: Request, answers: Choices, asked: Choosing, writer: ChoiceWriter
) -> Response:
    """Generate the answers and respond with them, whole or as events, whichever is `asked`."""
    told = head(answers.router, answers.model_id, writer.prefix)
    if asked.stream:
        chunks = _chunks(answers, asked, writer, told)
        return await event_stream(request, chunks, _chunk_json, event_of, DONE)
    outputs = await answers.whole()
    choices = [writer.choice(place, output) for place, output in enumerate(outputs)]
    usage = answers.usage([output.details for output in outputs])
    return respond_with(writer.whole(**told, choices=choices, usage=usage))


async def _chunks(
    answers: Choices, asked: Choosing, writer: ChoiceWriter, told: dict[str, Any]
) -> AsyncGenerator[BaseModel, None]:
    details: dict[int, Any] = {}
    async with aclosing(answers.stream()) as chunks:
        async for place, chunk in chunks:
            for choice in writer.pieces(place, chunk):
                yield writer.chunk(**told, choices=[choice])
            if chunk.details:
                details[place] = chunk.details
    if asked.tells_usage:
        usage = answers.usage([details[place] for place in sorted(details)])
        yield writer.chunk(**told, choices=[], usage=usage)


def _chunk_json(chunk: BaseModel) -> bytes:
    return chunk.model_dump_json().encode()
