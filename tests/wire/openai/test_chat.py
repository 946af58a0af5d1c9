"""Chat completions, judged by the openai client and the Hub's own."""

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
from tests.wire.openai.openai_outputs import always, conforms, streamed, writes, written

HELLO: Any = [{"role": "user", "content": "Hello!"}]
ANSWER = written("Good", " day", "!")


@pytest.fixture
def strict() -> bool:
    return True


@pytest.fixture
def router(router: FakeRouter) -> FakeRouter:
    writes(router, "conversational", ANSWER)
    return router


def ask(client: OpenAI, messages: Any = HELLO, **settings: Any) -> Any:
    return client.chat.completions.create(model="conversational", messages=messages, **settings)


def post(url: str, **body: Any) -> httpx.Response:
    asked = {"model": "conversational", "messages": HELLO, **body}
    return httpx.post(f"{url}/v1/chat/completions", json=asked)


# ---------------------------------------------------------------------------------------------------- whole


def test_an_answer(client, router) -> None:
    before = time.time()
    told = ask(client)
    (choice,) = told.choices
    assert (choice.index, choice.message.role, choice.message.content) == (0, "assistant", "Good day!")
    assert choice.finish_reason == "stop"
    assert choice.logprobs is None
    assert (told.usage.prompt_tokens, told.usage.completion_tokens, told.usage.total_tokens) == (5, 4, 9)
    assert told.object == "chat.completion"
    assert told.model == "conversational"
    assert told.id.startswith("chatcmpl-")
    assert before - 1 <= told.created <= time.time()
    assert told.system_fingerprint == "714eb0f"
    conforms(told.to_dict(), "ChatCompletion")
    assert ask(client).id != told.id


def test_what_is_not_given_the_checkpoint_decides(client, router) -> None:
    ask(client)
    assert router.asked[0][2].model_dump(exclude_unset=True) == {"details": True}


def test_settings(client, router) -> None:
    ask(
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
    assert router.asked[0][2].model_dump(exclude_unset=True) == {
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
    ask(client, max_tokens=8, stop="End", extra_body={"top_k": -1})
    assert router.asked[1][2].model_dump(exclude_unset=True) == {
        "max_new_tokens": 8,
        "stop": ["End"],
        "details": True,
    }


def test_what_changes_nothing_is_taken(client, router) -> None:
    told = ask(
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
        extra_body={"colour": "red", "temperature": None, "n": None, "stop": None, "stream": None},
    )
    assert told.choices[0].message.content == "Good day!"


def test_turns(client, router) -> None:
    ask(
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
    assert [(turn.role, turn.content) for turn in router.asked[0][1][0].messages] == [
        ("system", "Be kind."),
        ("user", "One\nTwo"),
        ("assistant", "Three"),
        ("user", "Four"),
    ]


def test_turns_that_say_nothing(client, router) -> None:
    said = [("system", ""), ("user", ""), ("assistant", ""), ("assistant", None), ("user", "Hello?")]
    ask(
        client,
        [*({"role": role, "content": content} for role, content in said), {"role": "assistant"}, *HELLO],
    )
    heard = [(turn.role, turn.content) for turn in router.asked[0][1][0].messages]
    assert heard == [
        *((role, content or "") for role, content in said),
        ("assistant", ""),
        ("user", "Hello!"),
    ]


@pytest.mark.parametrize(
    ("finish", "told"), [("length", "length"), ("eos_token", "stop"), ("stop_sequence", "stop")]
)
def test_finish_reasons(client, router, finish: str, told: str) -> None:
    writes(router, "conversational", written("a", finish=finish))
    assert ask(client).choices[0].finish_reason == told
    assert [chunk.choices[0].finish_reason for chunk in ask(client, stream=True)][-1] == told


def test_several_answers(client, router) -> None:
    told = ask(client, n=3, seed=10)
    assert [choice.index for choice in told.choices] == [0, 1, 2]
    assert [params.seed for _, _, params in router.asked] == [10, 11, 12]
    assert all(params.do_sample for _, _, params in router.asked)
    assert (told.usage.prompt_tokens, told.usage.completion_tokens, told.usage.total_tokens) == (5, 12, 17)


def test_several_answers_draw_their_own_seeds(client, router) -> None:
    ask(client, n=2)
    assert [(params.seed, params.do_sample) for _, _, params in router.asked] == [(None, True)] * 2


def test_seeds_begin_again(client, router) -> None:
    ask(client, n=2, seed=2**63 - 1)
    assert [params.seed for _, _, params in router.asked] == [2**63 - 1, 0]


@pytest.mark.parametrize(
    ("seed", "taken"), [(-1, [2**63 - 1, 0]), (-(2**63), [0, 1]), (-5, [2**63 - 5, 2**63 - 4])]
)
def test_a_seed_may_be_negative(client, router, seed: int, taken: list[int]) -> None:
    ask(client, n=2, seed=seed)
    assert [params.seed for _, _, params in router.asked] == taken


def test_logprobs(client, router) -> None:
    (choice,) = ask(client, logprobs=True, top_logprobs=2).choices
    assert router.asked[0][2].top_n_tokens == 2
    assert [token.token for token in choice.logprobs.content] == ["Good", " day", "!"]
    first = choice.logprobs.content[0]
    assert (first.logprob, first.bytes) == (-0.5, list(b"Good"))
    assert [(one.token, one.logprob) for one in first.top_logprobs] == [("Good", -0.5), ("other", -9.0)]


def test_logprobs_of_what_cannot_be(client, router) -> None:
    answer = written("é")
    never = answer.details.tokens[0].model_copy(update={"logprob": float("-inf")})
    details = answer.details.model_copy(update={"tokens": [never], "top_tokens": None})
    router.outputs["conversational"] = lambda _: answer.model_copy(update={"details": details})
    (token,) = ask(client, logprobs=True).choices[0].logprobs.content
    assert (token.logprob, token.bytes, token.top_logprobs) == (-9999.0, [0xC3, 0xA9], [])


# --------------------------------------------------------------------------------------------------- streams


def test_a_stream(client, router) -> None:
    chunks = list(ask(client, stream=True))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "Good", " day", "!", None]
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", None, None, None, None]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 4 + ["stop"]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)
    for chunk in chunks:
        conforms(chunk.to_dict(), "ChatCompletionChunk")
    assert router.closed == ["conversational"]


def test_a_delta_holds_only_what_is_new(url, router) -> None:
    lines = [line for line in post(url, stream=True).text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines[:-1]]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert deltas[1] == {"content": "Good"}
    assert deltas[-1] == {}


def test_a_streams_usage(client, router) -> None:
    chunks = list(ask(client, stream=True, n=2, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    usage = chunks[-1].usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 8, 13)
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_streams_interleave(client, router) -> None:
    writes(router, "conversational", written("a", "b", "c"))
    texts: dict[int, str] = {0: "", 1: "", 2: ""}
    order = []
    for chunk in ask(client, stream=True, n=3, seed=1):
        (choice,) = chunk.choices
        if choice.delta.content:
            texts[choice.index] += choice.delta.content
            order.append(choice.index)
    assert texts == {0: "abc", 1: "abc", 2: "abc"}
    assert order == [0, 1, 2] * 3
    assert [params.seed for _, _, params in router.asked] == [1, 2, 3]
    assert router.closed == ["conversational"] * 3


def test_logprobs_in_a_stream(client, router) -> None:
    chunks = list(ask(client, stream=True, logprobs=True, top_logprobs=1))
    told = [chunk.choices[0].logprobs for chunk in chunks]
    assert [one.content[0].token for one in told if one] == ["Good", " day", "!"]
    assert [one.token for one in told[1].content[0].top_logprobs] == ["Good", "other"]


async def test_the_async_client(url, router) -> None:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        told = await client.chat.completions.create(model="conversational", messages=HELLO)
        assert told.choices[0].message.content == "Good day!"
        stream = await client.chat.completions.create(model="conversational", messages=HELLO, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Good day!"


def test_the_clients_own_way_to_stream(client, router) -> None:
    with client.chat.completions.stream(model="conversational", messages=HELLO) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        told = stream.get_final_completion()
    assert deltas == ["", "Good", " day", "!"]
    assert told.choices[0].message.content == "Good day!"


# --------------------------------------------------------------------------------------- what is not answered


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
def test_what_cannot_be_read_is_named(url, router, body: dict[str, Any], param: str) -> None:
    answered = post(url, **body)
    assert answered.status_code == 400, answered.text
    conforms(answered.json(), "OpenAIFailure")
    error = answered.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, None)
    assert f"`{param}`" in error["message"]
    assert not router.asked


def test_errors_are_the_clients_own(client, router) -> None:
    with pytest.raises(openai.BadRequestError, match="tools") as bad:
        ask(client, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
    assert (bad.value.param, bad.value.type) == ("tools", "invalid_request_error")
    with pytest.raises(openai.NotFoundError, match="no model is named 'nobody'") as unknown:
        client.chat.completions.create(model="nobody", messages=HELLO)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="`model`"):
        client.post("/chat/completions", body={"messages": HELLO}, cast_to=object)
    with pytest.raises(openai.BadRequestError, match="'Continue a text'; it does not hold a conversation"):
        client.chat.completions.create(model="text-generation", messages=HELLO)
    router.outputs["conversational"] = always(Overloaded("every queue is full", retry_after=3))
    with pytest.raises(openai.RateLimitError, match="every queue is full") as full:
        ask(client)
    assert (full.value.code, full.value.response.headers["retry-after"]) == ("rate_limit_exceeded", "3")
    router.outputs["conversational"] = always(InvalidInput("the chat template refuses this"))
    with pytest.raises(openai.BadRequestError, match="template refuses"):
        ask(client)


def test_an_error_before_the_first_token_has_its_status(client, router) -> None:
    async def full(_: Any) -> Any:
        raise Overloaded("every queue is full")
        yield

    router.streams["conversational"] = full
    with pytest.raises(openai.RateLimitError, match="every queue is full"):
        ask(client, stream=True, n=3)
    assert router.closed == ["conversational"] * 3


def test_an_error_in_a_stream(client, router) -> None:
    writes(router, "conversational", ANSWER, fails=Overloaded("the replica has gone"))
    chunks = ask(client, stream=True)
    heard = [next(chunks).choices[0].delta.content for _ in range(4)]
    assert heard == ["", "Good", " day", "!"]
    with pytest.raises(openai.APIError, match="the replica has gone") as gone:
        next(chunks)
    assert gone.value.code == "rate_limit_exceeded"


def test_an_error_of_one_answer_ends_the_others(client, router) -> None:
    begun = 0

    async def chunks(_: Any) -> Any:
        nonlocal begun
        begun += 1
        last = begun == 3
        yield streamed(ANSWER)[0]
        if last:
            raise ValueError("secret")
        await asyncio.sleep(60)

    router.streams["conversational"] = chunks
    with pytest.raises(openai.APIError, match="internal error, request id") as failed:
        list(ask(client, stream=True, n=3))
    assert "secret" not in str(failed.value.body)
    assert router.closed == ["conversational"] * 3


@pytest.mark.parametrize("seen", [0, 1])
def test_a_caller_who_leaves_ends_every_stream(url, router, seen: int) -> None:
    async def chunks(_: Any) -> Any:
        for chunk in streamed(ANSWER)[:seen]:
            yield chunk
        await asyncio.sleep(60)

    router.streams["conversational"] = chunks
    body = {"model": "conversational", "messages": HELLO, "stream": True, "n": 3}
    asked = httpx.Timeout(5, read=5 if seen else 0.3)
    try:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=asked) as answered:
            lines = answered.iter_lines()
            assert next(lines).startswith("data: ")
            assert not router.closed
    except httpx.ReadTimeout:
        assert not seen
    until = time.monotonic() + 2
    while len(router.closed) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert router.closed == ["conversational"] * 3


# ------------------------------------------------------------------------------------- under the model's path


@pytest.mark.parametrize("model", ["conversational", "anything", None])
def test_the_path_names_the_model(url, router, model: str | None) -> None:
    body = {"messages": HELLO, **({"model": model} if model else {})}
    answered = httpx.post(f"{url}/models/conversational/v1/chat/completions", json=body)
    assert answered.json()["model"] == "conversational"


@pytest.mark.parametrize("path", ["", "/v1", "/v1/chat/completions"])
def test_the_hubs_client(url, router, path: str) -> None:
    client = InferenceClient(base_url=f"{url}/models/conversational{path}", token="none")
    told = client.chat_completion(HELLO, max_tokens=5, logprobs=True, top_logprobs=1)
    assert told.choices[0].message.content == "Good day!"
    assert told.choices[0].logprobs.content[0].token == "Good"
    assert (told.usage.total_tokens, told.system_fingerprint) == (9, "714eb0f")
    chunks = list(client.chat_completion(HELLO, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Good day!"
    assert chunks[-1].usage.total_tokens == 9


async def test_the_hubs_async_client(url, router) -> None:
    client = AsyncInferenceClient(base_url=f"{url}/models/conversational", token="none")
    async with client:
        told = await client.chat_completion(HELLO)
        assert told.choices[0].message.content == "Good day!"
        chunks = await client.chat_completion(HELLO, stream=True)
        assert "".join([one.choices[0].delta.content or "" async for one in chunks]) == "Good day!"


def test_the_hubs_client_can_read_what_went_wrong(url, router) -> None:
    client = InferenceClient(base_url=f"{url}/models/conversational", token="none")
    with pytest.raises(HubBadRequest, match="`max_tokens`: Input should be greater"):
        client.chat_completion(HELLO, max_tokens=0)
    writes(router, "conversational", ANSWER, fails=Overloaded("the replica has gone"))
    with pytest.raises(UnknownError, match="the replica has gone"):
        list(client.chat_completion(HELLO, stream=True))
