"""Responses, judged by the openai client."""

import json
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from deployments.errors import Overloaded
from tests.fake_router import FakeRouter
from tests.wire.openai.openai_outputs import always, conforms, writes, written

ANSWER = written("Good", " day", "!")
ORDER = [
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
def strict() -> bool:
    return True


@pytest.fixture
def router(router: FakeRouter) -> FakeRouter:
    writes(router, "conversational", ANSWER)
    return router


def ask(client: OpenAI, said: Any = "Hello!", **settings: Any) -> Any:
    return client.responses.create(model="conversational", input=said, **settings)


def turns(router: FakeRouter) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in router.asked[0][1][0].messages]


def test_an_answer(client, router) -> None:
    told = ask(client, instructions="Be kind.", max_output_tokens=9, temperature=0.5, top_p=0.9)
    assert told.output_text == "Good day!"
    assert (told.status, told.error, told.incomplete_details) == ("completed", None, None)
    assert (told.output[0].status, told.output[0].role) == ("completed", "assistant")
    assert (told.usage.input_tokens, told.usage.output_tokens, told.usage.total_tokens) == (5, 4, 9)
    assert told.usage.output_tokens_details.reasoning_tokens == 0
    assert (told.instructions, told.max_output_tokens, told.temperature, told.top_p) == (
        "Be kind.",
        9,
        0.5,
        0.9,
    )
    assert told.id.startswith("resp_")
    conforms(json.loads(told.to_json()), "OpenAIResponse")
    assert turns(router) == [("system", "Be kind."), ("user", "Hello!")]
    assert router.asked[0][2].model_dump(exclude_unset=True) == {
        "max_new_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "details": True,
    }


def test_an_answer_that_is_cut(client, router) -> None:
    writes(router, "conversational", written("Good", finish="length"))
    told = ask(client)
    assert (told.status, told.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert told.output[0].status == "incomplete"
    events = list(ask(client, stream=True))
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize("nothing", ["", [{"type": "output_text", "text": ""}], None])
def test_a_conversation_goes_on_after_an_answer_of_nothing(client, router, nothing: Any) -> None:
    answer = {"type": "message", "role": "assistant", "content": nothing}
    ask(client, [{"role": "user", "content": "Hello!"}, answer, {"role": "user", "content": "And?"}])
    assert turns(router) == [("user", "Hello!"), ("assistant", ""), ("user", "And?")]


def test_empty_instructions_are_none(client, router) -> None:
    assert ask(client, instructions="").instructions == ""
    assert turns(router) == [("user", "Hello!")]


def test_a_conversation_goes_on(client, router) -> None:
    first = ask(client)
    router.asked.clear()
    ask(
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
    assert turns(router) == [
        ("system", "Be kind."),
        ("user", "Hello!"),
        ("assistant", "Good day!"),
        ("user", "And now?"),
    ]


def test_events(client, router) -> None:
    events = list(ask(client, stream=True))
    assert [event.type for event in events] == [*ORDER, "response.completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    for event in events:
        conforms(json.loads(event.to_json()), "ResponseEvent")
    assert [event.delta for event in events if event.type.endswith("delta")] == ["Good", " day", "!"]
    assert events[7].text == events[8].part.text == events[9].item.content[0].text == "Good day!"
    assert {event.item_id for event in events if hasattr(event, "item_id")} == {events[2].item.id}
    assert (events[0].response.status, events[0].response.output) == ("in_progress", [])
    told = events[-1].response
    assert told.id == events[0].response.id
    assert (told.output_text, told.usage.total_tokens) == ("Good day!", 9)
    assert router.closed == ["conversational"]


def test_the_clients_own_way_to_stream(client, router) -> None:
    with client.responses.stream(model="conversational", input="Hello!") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        assert text == stream.get_final_response().output_text == "Good day!"


async def test_the_async_client(url, router) -> None:
    async with AsyncOpenAI(base_url=f"{url}/models/conversational/v1", api_key="any") as client:
        assert (await client.responses.create(input="Hello!")).output_text == "Good day!"
        stream = await client.responses.create(input="Hello!", stream=True)
        assert [event.type async for event in stream] == [*ORDER, "response.completed"]


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (Overloaded("the replica has gone"), "rate_limit_exceeded", "the replica has gone"),
        (ValueError("secret"), "server_error", "internal error, request id"),
    ],
)
def test_a_stream_that_fails(client, router, error: Exception, code: str, sentence: str) -> None:
    writes(router, "conversational", ANSWER, fails=error)
    events = list(ask(client, stream=True))
    assert [event.type for event in events] == [*ORDER[:7], "response.failed"]
    assert events[-1].sequence_number == 7
    told = events[-1].response
    assert (told.status, told.error.code) == ("failed", code)
    assert sentence in told.error.message
    assert "secret" not in told.error.message
    assert told.output_text == "Good day!"


def test_an_error_before_the_first_token_has_its_status(client, router) -> None:
    async def full(_: Any) -> Any:
        raise Overloaded("every queue is full")
        yield

    router.streams["conversational"] = full
    with pytest.raises(openai.RateLimitError, match="every queue is full"):
        ask(client, stream=True)
    router.outputs["conversational"] = always(Overloaded("every queue is full"))
    with pytest.raises(openai.RateLimitError, match="every queue is full"):
        ask(client)


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
def test_what_cannot_be_read_is_named(url, router, body: dict[str, Any], param: str) -> None:
    asked = {"model": "conversational", "input": "Hello!", **body}
    answered = httpx.post(f"{url}/v1/responses", json=asked)
    assert answered.status_code == 400, answered.text
    error = answered.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert not router.asked


def test_none_is_stored(client, router) -> None:
    told = ask(client)
    assert told.model_dump()["store"] is False
    with pytest.raises(openai.NotFoundError, match="not stored") as unknown:
        client.responses.retrieve(told.id)
    assert unknown.value.code is None


def test_a_model_that_holds_no_conversation(client, router) -> None:
    with pytest.raises(openai.BadRequestError, match="it does not hold a conversation"):
        client.responses.create(model="text-generation", input="Hello!")
