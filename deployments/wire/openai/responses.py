"""Responses: a conversation in, one answer out, whole or told as it grows. None is stored."""

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
from deployments.wire.openai.generation import Choices, choices, finish_reason, visible
from deployments.wire.openai.messages import CHAT
from deployments.wire.openai.requests import model_of, read, respond_with
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


class Story:
    """One answer as it is told: `response` at any time, and the `events` that lead there."""

    def __init__(self, model_id: str, asked: ResponsesRequest, answers: Choices) -> None:
        self.answers, self.number, self.text = answers, 0, ""
        self.item = {"item_id": f"msg_{uuid.uuid4().hex}", "output_index": 0}
        self.facts: dict[str, Any] = {
            "id": f"resp_{uuid.uuid4().hex}",
            "created_at": int(time.time()),
            "model": model_id,
            **asked.model_dump(include={"instructions", "max_output_tokens", "temperature", "top_p"}),
        }

    def ended(self, details: Any) -> OpenAIResponse:
        """The whole answer."""
        cut = finish_reason(details) == "length"
        took = self.answers.usage([details])
        return OpenAIResponse(
            **self.facts,
            status="incomplete" if cut else "completed",
            output=[self._message("incomplete" if cut else "completed")],
            incomplete_details=IncompleteDetails() if cut else None,
            usage=ResponseUsage(
                input_tokens=took.prompt_tokens,
                output_tokens=took.completion_tokens,
                total_tokens=took.total_tokens,
            ),
        )

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """What happens, from the first token on."""
        details = None
        async with aclosing(self.answers.stream()) as chunks:
            async for _, chunk in chunks:
                if not self.number:
                    for event in self._beginning():
                        yield event
                if delta := visible(chunk.token):
                    self.text += delta
                    yield self._event("output_text.delta", **self._part, delta=delta, logprobs=[])
                details = chunk.details or details
        for event in self._end(self.ended(details)):
            yield event

    def failed(self, error: InferenceError) -> bytes:
        """The event that ends the story badly."""
        code: Any = "rate_limit_exceeded" if error.kind == "overloaded" else "server_error"
        response = OpenAIResponse(
            **self.facts,
            status="failed",
            output=[self._message("incomplete")],
            error=ResponseFailure(code=code, message=str(error)),
        )
        return orjson.dumps(self._event("failed", response=response.model_dump()))

    @property
    def _part(self) -> dict[str, Any]:
        return {**self.item, "content_index": 0}

    def _beginning(self) -> list[dict[str, Any]]:
        response = OpenAIResponse(**self.facts, status="in_progress").model_dump()
        item = OutputMessage(id=self.item["item_id"], status="in_progress", content=[]).model_dump()
        part = OutputText(text="").model_dump()
        return [
            self._event("created", response=response),
            self._event("in_progress", response=response),
            self._event("output_item.added", output_index=0, item=item),
            self._event("content_part.added", **self._part, part=part),
        ]

    def _end(self, response: OpenAIResponse) -> list[dict[str, Any]]:
        item = response.output[0].model_dump()
        return [
            self._event("output_text.done", **self._part, text=self.text, logprobs=[]),
            self._event("content_part.done", **self._part, part=item["content"][0]),
            self._event("output_item.done", output_index=0, item=item),
            self._event(response.status, response=response.model_dump()),
        ]

    def _message(self, status: Status) -> OutputMessage:
        return OutputMessage(id=self.item["item_id"], status=status, content=[OutputText(text=self.text)])

    def _event(self, type_: str, **fields: Any) -> dict[str, Any]:
        event = {"type": f"response.{type_}", "sequence_number": self.number, **fields}
        self.number += 1
        return event


async def respond(router: "Router", request: Request) -> Response:
    """Answer a text or a conversation."""
    asked = await read(request, ResponsesRequest)
    model_id = model_of(request, asked)
    answers = await choices(router, model_id, CHAT, [asked.turns()], asked, "input")
    story = Story(model_id, asked, answers)
    if asked.stream:
        return await event_stream(request, story.events(), orjson.dumps, story.failed)
    (output,) = await answers.whole()
    story.text = output.generated_text
    return respond_with(story.ended(output.details))


async def show_response(router: "Router", request: Request) -> Response:
    """None is kept."""
    raise NotStored("responses are not stored here; none can be shown again")
