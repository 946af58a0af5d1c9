"""Responses: generate one message for a text or a conversation, whole or as a stream. None is stored."""

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from deployments.errors import InferenceError
from deployments.wire.openai.errors import NotStored
from deployments.wire.openai.generation import ChoiceGenerator, choice_generator, finish_reason, text_of
from deployments.wire.openai.messages import CHAT
from deployments.wire.openai.requests import model_id_of, parse_body, respond_with
from deployments.wire.openai.response_types import (
    IncompleteDetails,
    OpenAIResponse,
    OutputMessage,
    OutputText,
    ResponseFailure,
    ResponsesRequest,
    ResponseUsage,
    Status,
)
from deployments.wire.sse import event_stream

if TYPE_CHECKING:
    from deployments.routing.router import Router


class ResponseStream:
    """One response: its state so far (`text` is the generated text), and the events that lead to it."""

    def __init__(self, model_id: str, body: ResponsesRequest, generator: ChoiceGenerator) -> None:
        self.text = ""
        self._generator, self._num_events = generator, 0
        self._item_ids = {"item_id": f"msg_{uuid.uuid4().hex}", "output_index": 0}
        self._part_ids = {**self._item_ids, "content_index": 0}
        self._fields: dict[str, Any] = {
            "id": f"resp_{uuid.uuid4().hex}",
            "created_at": int(time.time()),
            "model": model_id,
            **body.model_dump(include={"instructions", "max_output_tokens", "temperature", "top_p"}),
        }

    def final_response(self, details: Any) -> OpenAIResponse:
        """Return the response when all of `text` is generated."""
        truncated = finish_reason(details) == "length"
        status: Status = "incomplete" if truncated else "completed"
        usage = self._generator.usage([details])
        return OpenAIResponse(
            **self._fields,
            status=status,
            output=[self._message(status)],
            incomplete_details=IncompleteDetails() if truncated else None,
            usage=ResponseUsage(
                input_tokens=usage.prompt_tokens,
                output_tokens=usage.completion_tokens,
                total_tokens=usage.total_tokens,
            ),
        )

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """Generate the text and yield its events; the first ones come with the first token."""
        details = None
        async with aclosing(self._generator.stream()) as chunks:
            async for _, chunk in chunks:
                if not self._num_events:
                    for event in self._first_events():
                        yield event
                if delta := text_of(chunk.token):
                    self.text += delta
                    yield self._event("output_text.delta", **self._part_ids, delta=delta, logprobs=[])
                details = chunk.details or details
        for event in self._last_events(self.final_response(details)):
            yield event

    def error_event(self, error: InferenceError) -> bytes:
        """Encode the event that ends the stream after an error."""
        code: Any = "rate_limit_exceeded" if error.kind == "overloaded" else "server_error"
        response = OpenAIResponse(
            **self._fields,
            status="failed",
            output=[self._message("incomplete")],
            error=ResponseFailure(code=code, message=str(error)),
        )
        return orjson.dumps(self._event("failed", response=response.model_dump()))

    def _first_events(self) -> list[dict[str, Any]]:
        response = OpenAIResponse(**self._fields, status="in_progress").model_dump()
        item = OutputMessage(id=self._item_ids["item_id"], status="in_progress", content=[]).model_dump()
        part = OutputText(text="").model_dump()
        return [
            self._event("created", response=response),
            self._event("in_progress", response=response),
            self._event("output_item.added", output_index=0, item=item),
            self._event("content_part.added", **self._part_ids, part=part),
        ]

    def _last_events(self, response: OpenAIResponse) -> list[dict[str, Any]]:
        item = response.output[0].model_dump()
        return [
            self._event("output_text.done", **self._part_ids, text=self.text, logprobs=[]),
            self._event("content_part.done", **self._part_ids, part=item["content"][0]),
            self._event("output_item.done", output_index=0, item=item),
            self._event(response.status, response=response.model_dump()),
        ]

    def _message(self, status: Status) -> OutputMessage:
        content = [OutputText(text=self.text)]
        return OutputMessage(id=self._item_ids["item_id"], status=status, content=content)

    def _event(self, type_: str, **fields: Any) -> dict[str, Any]:
        event = {"type": f"response.{type_}", "sequence_number": self._num_events, **fields}
        self._num_events += 1
        return event


async def create_response(router: "Router", request: Request) -> Response:
    """Generate the next message after a text or a conversation."""
    body = await parse_body(request, ResponsesRequest)
    model_id = model_id_of(request, body)
    generator = await choice_generator(router, model_id, CHAT, [body.to_messages()], body, "input")
    stream = ResponseStream(model_id, body, generator)
    if body.stream:
        return await event_stream(request, stream.events(), orjson.dumps, stream.error_event)
    (output,) = await generator.generate()
    stream.text = output.generated_text
    return respond_with(stream.final_response(output.details))


async def show_response(router: "Router", request: Request) -> Response:
    """Raise `NotStored`."""
    raise NotStored("Roster does not store responses; create a new one")
