"""Chat completions, with the openai client and the Hub's client."""

import asyncio
import json
import time
from typing import Any

import httpx
import openai
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import BadRequestError as HubBadRequest
from huggingface_hub.errors import UnknownError
from openai import AsyncOpenAI, OpenAI

from deployments.errors import InvalidInput, Overloaded
from tests.fake_router import FakeRouter
from tests.wire.openai.openai_outputs import (
    assert_matches_schema,
    failing,
    generated,
    set_output,
    summary_of,
    to_chunks,
)

HELLO: Any = [{"role": "user", "content": "Hello!"}]
OUTPUT = generated("Good", " day", "!")


@pytest.fixture
def strict_validation() -> bool:
    return True


@pytest.fixture
def router(router: FakeRouter) -> FakeRouter:
    set_output(router, "conversational", OUTPUT)
    return router


def complete_chat(client: OpenAI, messages: Any = HELLO, **settings: Any) -> Any:
    return client.chat.completions.create(model="conversational", messages=messages, **settings)


def post_chat(url: str, **body: Any) -> httpx.Response:
    body = {"model": "conversational", "messages": HELLO, **body}
    return httpx.post(f"{url}/v1/chat/completions", json=body)


# ---------------------------------------------------------------------------------------------- one response


def test_chat_completion_response(client, router) -> None:
    before = time.time()
    completion = complete_chat(client)
    (choice,) = completion.choices
    assert (choice.index, choice.message.role, choice.message.content) == (0, "assistant", "Good day!")
    assert choice.finish_reason == "stop"
    assert choice.logprobs is None
    assert (
        completion.usage.prompt_tokens,
        completion.usage.completion_tokens,
        completion.usage.total_tokens,
    ) == (5, 4, 9)
    assert completion.object == "chat.completion"
    assert completion.model == "conversational"
    assert completion.id.startswith("chatcmpl-")
    assert before - 1 <= completion.created <= time.time()
    assert completion.system_fingerprint == "714eb0f"
    assert_matches_schema(completion.to_dict(), "ChatCompletion")
    assert complete_chat(client).id != completion.id


def test_absent_settings_are_left_to_the_checkpoint(client, router) -> None:
    complete_chat(client)
    assert router.received[0].params.model_dump(exclude_unset=True) == {"details": True}


def test_sampling_settings_become_task_parameters(client, router) -> None:
    complete_chat(
        client,
        max_completion_tokens=7,
        temperature=0,
        top_p=0.5,
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        seed=3,
        stop=["\n", "End"],
        extra_body={"top_k": 4, "repetition_penalty": 1.1},
    )
    assert router.received[0].params.model_dump(exclude_unset=True) == {
        "max_new_tokens": 7,
        "temperature": 0,
        "top_p": 0.5,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "seed": 3,
        "stop": ["\n", "End"],
        "top_k": 4,
        "repetition_penalty": 1.1,
        "details": True,
    }
    complete_chat(client, max_tokens=8, stop="End", extra_body={"top_k": -1})
    assert router.received[1].params.model_dump(exclude_unset=True) == {
        "max_new_tokens": 8,
        "stop": ["End"],
        "details": True,
    }


def test_options_without_effect_are_accepted(client, router) -> None:
    completion = complete_chat(
        client,
        user="me",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        parallel_tool_calls=False,
        reasoning_effort="low",
        prediction=None,
        tool_choice="auto",
        tools=[],
        modalities=["text"],
        response_format={"type": "text"},
        extra_body={"temperature": None, "n": None, "stop": None, "stream": None},
    )
    assert completion.choices[0].message.content == "Good day!"


def test_messages_become_the_tasks_conversation(client, router) -> None:
    complete_chat(
        client,
        [
            {"role": "developer", "content": "Be kind."},
            {
                "role": "user",
                "name": "Anna",
                "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}],
            },
            {"role": "assistant", "content": "Three", "refusal": None, "tool_calls": None},
            {"role": "user", "content": "Four"},
        ],
    )
    assert [(message.role, message.content) for message in router.received[0].inputs[0].messages] == [
        ("system", "Be kind."),
        ("user", "One\nTwo"),
        ("assistant", "Three"),
        ("user", "Four"),
    ]


def test_messages_without_content_are_accepted(client, router) -> None:
    messages = [("system", ""), ("user", ""), ("assistant", ""), ("assistant", None), ("user", "Hello?")]
    complete_chat(
        client,
        [*({"role": role, "content": content} for role, content in messages), {"role": "assistant"}, *HELLO],
    )
    converted = [(message.role, message.content) for message in router.received[0].inputs[0].messages]
    assert converted == [
        *((role, content or "") for role, content in messages),
        ("assistant", ""),
        ("user", "Hello!"),
    ]


@pytest.mark.parametrize(
    ("finish_reason", "expected"), [("length", "length"), ("eos_token", "stop"), ("stop_sequence", "stop")]
)
def test_finish_reason(client, router, finish_reason: str, expected: str) -> None:
    set_output(router, "conversational", generated("a", finish_reason=finish_reason))
    assert complete_chat(client).choices[0].finish_reason == expected
    assert [chunk.choices[0].finish_reason for chunk in complete_chat(client, stream=True)][-1] == expected


def test_n_choices_use_consecutive_seeds(client, router) -> None:
    completion = complete_chat(client, n=3, seed=10)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert [params.seed for _, _, params in router.received] == [10, 11, 12]
    assert all(params.do_sample for _, _, params in router.received)
    assert (
        completion.usage.prompt_tokens,
        completion.usage.completion_tokens,
        completion.usage.total_tokens,
    ) == (5, 12, 17)


def test_n_choices_without_a_seed_are_sampled(client, router) -> None:
    complete_chat(client, n=2)
    assert [(params.seed, params.do_sample) for _, _, params in router.received] == [(None, True)] * 2


def test_consecutive_seeds_wrap_around(client, router) -> None:
    complete_chat(client, n=2, seed=2**63 - 1)
    assert [params.seed for _, _, params in router.received] == [2**63 - 1, 0]


@pytest.mark.parametrize(
    ("seed", "task_seeds"), [(-1, [2**63 - 1, 0]), (-(2**63), [0, 1]), (-5, [2**63 - 5, 2**63 - 4])]
)
def test_negative_seeds_map_to_the_tasks_seeds(client, router, seed: int, task_seeds: list[int]) -> None:
    complete_chat(client, n=2, seed=seed)
    assert [params.seed for _, _, params in router.received] == task_seeds


def test_logprobs_and_top_logprobs(client, router) -> None:
    (choice,) = complete_chat(client, logprobs=True, top_logprobs=2).choices
    assert router.received[0].params.top_n_tokens == 2
    assert [token.token for token in choice.logprobs.content] == ["Good", " day", "!"]
    first = choice.logprobs.content[0]
    assert (first.logprob, first.bytes) == (-0.5, list(b"Good"))
    assert [(token.token, token.logprob) for token in first.top_logprobs] == [("Good", -0.5), ("other", -9.0)]


def test_infinite_logprobs_are_clipped(client, router) -> None:
    output = generated("é")
    impossible = output.details.tokens[0].model_copy(update={"logprob": float("-inf")})
    details = output.details.model_copy(update={"tokens": [impossible], "top_tokens": None})
    router.outputs["conversational"] = lambda _: output.model_copy(update={"details": details})
    (token,) = complete_chat(client, logprobs=True).choices[0].logprobs.content
    assert (token.logprob, token.bytes, token.top_logprobs) == (-9999.0, [0xC3, 0xA9], [])


# --------------------------------------------------------------------------------------------------- streams


def test_stream_chunks(client, router) -> None:
    chunks = list(complete_chat(client, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "Good", " day", "!", None]
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", None, None, None, None]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 4 + ["stop"]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)
    for chunk in chunks:
        assert_matches_schema(chunk.to_dict(), "ChatCompletionChunk")
    assert router.closed_streams == ["conversational"]


def test_deltas_omit_absent_fields(url, router) -> None:
    events = [event for event in post_chat(url, stream=True).text.split("\n\n") if event]
    assert events[-1] == "data: [DONE]"
    deltas = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events[:-1]]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert deltas[1] == {"content": "Good"}
    assert deltas[-1] == {}


def test_stream_usage(client, router) -> None:
    chunks = list(complete_chat(client, stream=True, n=2, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 8, 13)
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_chunks_of_several_choices_interleave(client, router) -> None:
    set_output(router, "conversational", generated("a", "b", "c"))
    texts: dict[int, str] = {0: "", 1: "", 2: ""}
    order = []
    for chunk in complete_chat(client, stream=True, n=3, seed=1):
        (choice,) = chunk.choices
        if choice.delta.content:
            texts[choice.index] += choice.delta.content
            order.append(choice.index)
    assert texts == {0: "abc", 1: "abc", 2: "abc"}
    assert order == [0, 1, 2] * 3
    assert [params.seed for _, _, params in router.received] == [1, 2, 3]
    assert router.closed_streams == ["conversational"] * 3


def test_stream_logprobs(client, router) -> None:
    chunks = list(complete_chat(client, stream=True, logprobs=True, top_logprobs=1))
    logprobs = [chunk.choices[0].logprobs for chunk in chunks]
    assert [part.content[0].token for part in logprobs if part] == ["Good", " day", "!"]
    assert [token.token for token in logprobs[1].content[0].top_logprobs] == ["Good", "other"]


async def test_async_openai_client(url, router) -> None:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        completion = await client.chat.completions.create(model="conversational", messages=HELLO)
        assert completion.choices[0].message.content == "Good day!"
        stream = await client.chat.completions.create(model="conversational", messages=HELLO, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Good day!"


def test_openai_clients_stream_helper(client, router) -> None:
    with client.chat.completions.stream(model="conversational", messages=HELLO) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        completion = stream.get_final_completion()
    assert deltas == ["", "Good", " day", "!"]
    assert completion.choices[0].message.content == "Good day!"


# --------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities[1]"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "Hello!"}, "messages"),
        ({"messages": [{"role": "tool", "content": "4", "tool_call_id": "1"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "system", "content": None}, *HELLO]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages"),
        ({"messages": [*HELLO, {"role": "assistant", "content": ""}]}, "messages"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [*HELLO, {"role": "assistant", "content": "a", "tool_calls": [{"id": "1"}]}]},
            "tool_calls",
        ),
        ({"messages": HELLO * 1001}, "messages"),
        ({"temperature": "0.5"}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"presence_penalty": -3}, "presence_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"seed": 2**63}, "seed"),
        ({"seed": -(2**63) - 1}, "seed"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"stop": 7}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": ["a", 7]}, "stop[1]"),
        ({"stop": ["a", ""]}, "stop.1"),
        ({"stop": ["a", ""], "top_p": 2}, "top_p"),
        ({"response_format": {}}, "response_format.type"),
        ({"messages": [*HELLO, "Hello!"]}, "messages[1]"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"logprobs": 2}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_invalid_field_returns_400_that_names_it(url, router, body: dict[str, Any], param: str) -> None:
    response = post_chat(url, **body)
    assert response.status_code == 400, response.text
    assert_matches_schema(response.json(), "OpenAIFailure")
    error = response.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, None)
    assert f"`{param}`" in error["message"]
    assert not router.received


def test_errors_raise_the_openai_clients_exceptions(client, router) -> None:
    with pytest.raises(openai.BadRequestError, match="tools") as error:
        complete_chat(client, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
    assert (error.value.param, error.value.type) == ("tools", "invalid_request_error")
    with pytest.raises(openai.NotFoundError, match="no model is named 'absent'") as error:
        client.chat.completions.create(model="absent", messages=HELLO)
    assert (error.value.code, error.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="`model`"):
        client.post("/chat/completions", body={"messages": HELLO}, cast_to=object)
    with pytest.raises(
        openai.BadRequestError, match=f"{summary_of('text-generation')}; it cannot hold a conversation"
    ):
        client.chat.completions.create(model="text-generation", messages=HELLO)
    router.outputs["conversational"] = failing(Overloaded("every queue is full", retry_after=3))
    with pytest.raises(openai.RateLimitError, match="every queue is full") as error:
        complete_chat(client)
    assert (error.value.code, error.value.response.headers["retry-after"]) == ("rate_limit_exceeded", "3")
    router.outputs["conversational"] = failing(InvalidInput("the chat template refuses this"))
    with pytest.raises(openai.BadRequestError, match="template refuses"):
        complete_chat(client)


def test_error_before_the_first_token_sets_the_status(client, router) -> None:
    async def overloaded(_: Any) -> Any:
        raise Overloaded("every queue is full")
        yield

    router.streams["conversational"] = overloaded
    with pytest.raises(openai.RateLimitError, match="every queue is full"):
        complete_chat(client, stream=True, n=3)
    assert router.closed_streams == ["conversational"] * 3


def test_error_during_a_stream_is_an_event(client, router) -> None:
    set_output(router, "conversational", OUTPUT, stream_error=Overloaded("the replica has gone"))
    chunks = complete_chat(client, stream=True)
    deltas = [next(chunks).choices[0].delta.content for _ in range(4)]
    assert deltas == ["", "Good", " day", "!"]
    with pytest.raises(openai.APIError, match="the replica has gone") as error:
        next(chunks)
    assert error.value.code == "rate_limit_exceeded"


def test_error_of_one_choice_closes_all_streams(client, router) -> None:
    num_started = 0

    async def chunks(_: Any) -> Any:
        nonlocal num_started
        num_started += 1
        is_last = num_started == 3
        yield to_chunks(OUTPUT)[0]
        if is_last:
            raise ValueError("secret")
        await asyncio.sleep(60)

    router.streams["conversational"] = chunks
    with pytest.raises(openai.APIError, match="internal error, request id") as error:
        list(complete_chat(client, stream=True, n=3))
    assert "secret" not in str(error.value.body)
    assert router.closed_streams == ["conversational"] * 3


@pytest.mark.parametrize("num_chunks", [0, 1])
def test_client_disconnect_closes_all_streams(url, router, num_chunks: int) -> None:
    async def chunks(_: Any) -> Any:
        for chunk in to_chunks(OUTPUT)[:num_chunks]:
            yield chunk
        await asyncio.sleep(60)

    router.streams["conversational"] = chunks
    body = {"model": "conversational", "messages": HELLO, "stream": True, "n": 3}
    timeout = httpx.Timeout(5, read=5 if num_chunks else 0.3)
    try:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=timeout) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("data: ")
            assert not router.closed_streams
    except httpx.ReadTimeout:
        assert not num_chunks
    deadline = time.monotonic() + 2
    while len(router.closed_streams) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert router.closed_streams == ["conversational"] * 3


# ------------------------------------------------------------------------------------- under the model's path


@pytest.mark.parametrize("model", ["conversational", "anything", None])
def test_model_in_the_path_takes_precedence(url, router, model: str | None) -> None:
    body = {"messages": HELLO, **({"model": model} if model else {})}
    response = httpx.post(f"{url}/models/conversational/v1/chat/completions", json=body)
    assert response.json()["model"] == "conversational"


@pytest.mark.parametrize("path", ["", "/v1", "/v1/chat/completions"])
def test_hub_client(url, router, path: str) -> None:
    client = InferenceClient(base_url=f"{url}/models/conversational{path}", token="none")
    completion = client.chat_completion(HELLO, max_tokens=5, logprobs=True, top_logprobs=1)
    assert completion.choices[0].message.content == "Good day!"
    assert completion.choices[0].logprobs.content[0].token == "Good"
    assert (completion.usage.total_tokens, completion.system_fingerprint) == (9, "714eb0f")
    chunks = list(client.chat_completion(HELLO, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Good day!"
    assert chunks[-1].usage.total_tokens == 9


async def test_async_hub_client(url, router) -> None:
    client = AsyncInferenceClient(base_url=f"{url}/models/conversational", token="none")
    async with client:
        completion = await client.chat_completion(HELLO)
        assert completion.choices[0].message.content == "Good day!"
        chunks = await client.chat_completion(HELLO, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in chunks]) == "Good day!"


def test_hub_client_shows_errors(url, router) -> None:
    client = InferenceClient(base_url=f"{url}/models/conversational", token="none")
    with pytest.raises(HubBadRequest, match="`max_tokens`: Input should be greater"):
        client.chat_completion(HELLO, max_tokens=0)
    set_output(router, "conversational", OUTPUT, stream_error=Overloaded("the replica has gone"))
    with pytest.raises(UnknownError, match="the replica has gone"):
        list(client.chat_completion(HELLO, stream=True))
