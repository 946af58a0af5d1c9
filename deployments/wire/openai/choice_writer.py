"""Respond to a request for chat completions or completions: with all choices, or with a stream of chunks."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from deployments.wire.openai.errors import error_event
from deployments.wire.openai.generation import DONE, ChoiceGenerator, ChoicesRequest, response_header
from deployments.wire.openai.requests import respond_with
from deployments.wire.sse import event_stream

MAX_TOP_LOGPROBS = 20
MIN_LOGPROB = -9999.0  # JSON has no infinity


class ChoiceWriter(Protocol):
    """Converts outputs and chunks of one request to choices; keeps the state of each choice's stream.

    `id_prefix` starts the response's id. `response_type` and `chunk_type` are the types of a response and of
    a chunk.
    """

    id_prefix: str
    response_type: type[BaseModel]
    chunk_type: type[BaseModel]

    def to_choice(self, index: int, output: Any) -> BaseModel:
        """Convert the output of the choice at `index`."""
        ...

    def to_chunk_choices(self, index: int, chunk: Any) -> Sequence[BaseModel]:
        """Convert a chunk of the choice at `index`: each result becomes an event."""
        ...


async def respond_with_choices(
    request: Request, generator: ChoiceGenerator, body: ChoicesRequest, writer: ChoiceWriter
) -> Response:
    """Generate the choices and respond with all of them, or stream them if `body` requests it."""
    header = response_header(generator.router, generator.model_id, writer.id_prefix)
    if body.stream:
        chunks = _stream_chunks(generator, body, writer, header)
        return await event_stream(request, chunks, _to_json, error_event, DONE)
    outputs = await generator.generate()
    choices = [writer.to_choice(index, output) for index, output in enumerate(outputs)]
    usage = generator.usage([output.details for output in outputs])
    return respond_with(writer.response_type(**header, choices=choices, usage=usage))


async def _stream_chunks(
    generator: ChoiceGenerator, body: ChoicesRequest, writer: ChoiceWriter, header: dict[str, Any]
) -> AsyncGenerator[BaseModel, None]:
    details: dict[int, Any] = {}
    async with aclosing(generator.stream()) as chunks:
        async for index, chunk in chunks:
            for choice in writer.to_chunk_choices(index, chunk):
                yield writer.chunk_type(**header, choices=[choice])
            if chunk.details:
                details[index] = chunk.details
    if body.include_usage:
        usage = generator.usage([details[index] for index in sorted(details)])
        yield writer.chunk_type(**header, choices=[], usage=usage)


def _to_json(chunk: BaseModel) -> bytes:
    return chunk.model_dump_json().encode()
