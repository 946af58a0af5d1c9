"""Responses, with the openai client."""

import json
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from deployments.errors import Overloaded
from tests.fake_router import FakeRouter
from tests.wire.openai.openai_outputs import assert_matches_schema, failing, generated, set_output

OUTPUT = generated("Good", " day", "!")
EVENT_TYPES = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    *["response.output_text.delta"] * 3,
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]


@pytest.fixture
def strict_validation() -> bool:
    return True


@pytest.fixture
def router(router: FakeRouter) -> FakeRouter:
    set_output(router, "conversational", OUTPUT)
    return router


def create(client: OpenAI, input_: Any = "Hello!", **settings: Any) -> Any:
    return client.responses.create(model="conversational", input=input_, **settings)


def messages(router: FakeRouter) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in router.received[0].inputs[0].messages]


def test_response(client, router) -> None:
    response = create(client, instructions="Be kind.", max_output_tokens=9, temperature=0.5, top_p=0.9)
    assert response.output_text == "Good day!"
    assert (response.status, response.error, response.incomplete_details) == ("completed", None, None)
    assert (response.output[0].status, response.output[0].role) == ("completed", "assistant")
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (
        5,
        4,
        9,
    )
    assert response.usage.output_tokens_details.reasoning_tokens == 0
    assert (response.instructions, response.max_output_tokens, response.temperature, response.top_p) == (
        "Be kind.",
        9,
        0.5,
        0.9,
    )
    assert response.id.startswith("resp_")
    assert_matches_schema(json.loads(response.to_json()), "OpenAIResponse")
    assert messages(router) == [("system", "Be kind."), ("user", "Hello!")]
    assert router.received[0].params.model_dump(exclude_unset=True) == {
        "max_new_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "details": True,
    }


def test_truncated_response_is_incomplete(client, router) -> None:
    set_output(router, "conversational", generated("Good", finish_reason="length"))
    response = create(client)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.output[0].status == "incomplete"
    events = list(create(client, stream=True))
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize("content", ["", [{"type": "output_text", "text": ""}], None])
def test_empty_assistant_message_in_the_input(client, router, content: Any) -> None:
    reply = {"type": "message", "role": "assistant", "content": content}
    create(client, [{"role": "user", "content": "Hello!"}, reply, {"role": "user", "content": "And?"}])
    assert messages(router) == [("user", "Hello!"), ("assistant", ""), ("user", "And?")]


def test_empty_instructions_add_no_message(client, router) -> None:
    assert create(client, instructions="").instructions == ""
    assert messages(router) == [("user", "Hello!")]


def test_output_items_are_accepted_as_input(client, router) -> None:
    first = create(client)
    router.received.clear()
    create(
        client,
        [
            {"role": "developer", "content": [{"type": "input_text", "text": "Be kind."}]},
            {"type": "message", "role": "user", "content": "Hello!"},
            *[item.to_dict() for item in first.output],
            {"role": "user", "content": "And now?"},
        ],
        tools=[],
        tool_choice="auto",
        store=True,
        truncation="auto",
        text={"format": {"type": "text"}},
        reasoning={"effort": "low"},
    )
    assert messages(router) == [
        ("system", "Be kind."),
        ("user", "Hello!"),
        ("assistant", "Good day!"),
        ("user", "And now?"),
    ]


def test_stream_events(client, router) -> None:
    events = list(create(client, stream=True))
    assert [event.type for event in events] == [*EVENT_TYPES, "response.completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    for event in events:
        assert_matches_schema(json.loads(event.to_json()), "ResponseEvent")
    assert [event.delta for event in events if event.type.endswith("delta")] == ["Good", " day", "!"]
    assert events[7].text == events[8].part.text == events[9].item.content[0].text == "Good day!"
    assert {event.item_id for event in events if hasattr(event, "item_id")} == {events[2].item.id}
    assert (events[0].response.status, events[0].response.output) == ("in_progress", [])
    response = events[-1].response
    assert response.id == events[0].response.id
    assert (response.output_text, response.usage.total_tokens) == ("Good day!", 9)
    assert router.closed_streams == ["conversational"]


def test_openai_clients_stream_helper(client, router) -> None:
    with client.responses.stream(model="conversational", input="Hello!") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert text == stream.get_final_response().output_text == "Good day!"


async def test_async_openai_client(url, router) -> None:
    async with AsyncOpenAI(base_url=f"{url}/models/conversational/v1", api_key="any") as client:
        assert (await client.responses.create(input="Hello!")).output_text == "Good day!"
        stream = await client.responses.create(input="Hello!", stream=True)
        assert [event.type async for event in stream] == [*EVENT_TYPES, "response.completed"]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (Overloaded("the replica has gone"), "rate_limit_exceeded", "the replica has gone"),
        (ValueError("secret"), "server_error", "internal error, request id"),
    ],
)
def test_error_during_a_stream_is_a_failed_event(
    client, router, error: Exception, code: str, message: str
) -> None:
    set_output(router, "conversational", OUTPUT, stream_error=error)
    events = list(create(client, stream=True))
    assert [event.type for event in events] == [*EVENT_TYPES[:7], "response.failed"]
    assert events[-1].sequence_number == 7
    response = events[-1].response
    assert (response.status, response.error.code) == ("failed", code)
    assert message in response.error.message
    assert "secret" not in response.error.message
    assert response.output_text == "Good day!"


def test_error_before_the_first_token_sets_the_status(client, router) -> None:
    async def overloaded(_: Any) -> Any:
        raise Overloaded("every queue is full")
        yield

    router.streams["conversational"] = overloaded
    with pytest.raises(openai.RateLimitError, match="every queue is full"):
        create(client, stream=True)
    router.outputs["conversational"] = failing(Overloaded("every queue is full"))
    with pytest.raises(openai.RateLimitError, match="every queue is full"):
        create(client)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "1", "output": "4"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": ""}]}, "input"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format.type"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_invalid_field_returns_400_that_names_it(url, router, body: dict[str, Any], param: str) -> None:
    body = {"model": "conversational", "input": "Hello!", **body}
    http_response = httpx.post(f"{url}/v1/responses", json=body)
    assert http_response.status_code == 400, http_response.text
    error = http_response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert not router.received


def test_stored_response_returns_404(client, router) -> None:
    response = create(client)
    assert response.model_dump()["store"] is False
    with pytest.raises(openai.NotFoundError, match="does not store responses") as error:
        client.responses.retrieve(response.id)
    assert error.value.code is None


def test_model_without_conversations_returns_400(client, router) -> None:
    with pytest.raises(openai.BadRequestError, match="it cannot hold a conversation"):
        client.responses.create(model="text-generation", input="Hello!")
