"""Completions, judged by the openai client."""

import json
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from deployments.errors import InvalidInput, Overloaded
from tests.fake_router import FakeRouter
from tests.wire.openai.openai_outputs import always, conforms, writes, written

ANSWER = written(" upon", " a", " time")


@pytest.fixture
def router(router: FakeRouter) -> FakeRouter:
    writes(router, "text-generation", ANSWER)
    return router


def ask(client: OpenAI, prompt: Any = "Once", **settings: Any) -> Any:
    return client.completions.create(model="text-generation", prompt=prompt, **settings)


def prompts(router: FakeRouter) -> list[list[str]]:
    return [[input_.text for input_ in inputs] for _, inputs, _ in router.asked]


def test_an_answer(url, router) -> None:
    with OpenAI(base_url=f"{url}/v1", api_key="any", _strict_response_validation=True) as strict:
        told = ask(strict)
    (choice,) = told.choices
    assert (choice.index, choice.text, choice.finish_reason) == (0, " upon a time", "stop")
    assert (told.usage.prompt_tokens, told.usage.completion_tokens, told.usage.total_tokens) == (5, 4, 9)
    assert (told.object, told.model, told.system_fingerprint) == (
        "text_completion",
        "text-generation",
        "714eb0f",
    )
    assert told.id.startswith("cmpl-")
    conforms(told.to_dict(), "Completion")
    assert router.asked[0][2].model_dump(exclude_unset=True) == {"details": True}


def test_settings(client, router) -> None:
    ask(client, max_tokens=7, temperature=0.5, stop="\n", seed=3, n=2, best_of=2, logprobs=0)
    assert [params.model_dump(exclude_unset=True) for _, _, params in router.asked] == [
        {
            "max_new_tokens": 7,
            "temperature": 0.5,
            "stop": ["\n"],
            "seed": seed,
            "do_sample": True,
            "details": True,
        }
        for seed in (3, 4)
    ]


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("Once", ["Once"]),
        (["Once", "Twice"], ["Once", "Twice"]),
        ([3, 2], ["xxx xx"]),
        ([[3, 2], [4]], ["xxx xx", "xxxx"]),
        ([0, 3, 2], ["xxx xx"]),
        ([0, 3, 0, 2], ["xxx [S] xx"]),
        ([0], ["[S]"]),
    ],
    ids=str,
)
def test_prompts(client, router, prompt: Any, read: list[str]) -> None:
    """Of token ids, the sign that the tokenizer puts before every text is not doubled; no other is lost."""
    told = ask(client, prompt)
    assert prompts(router) == [read]
    assert len(told.choices) == len(read)
    assert told.usage.prompt_tokens == 5 * len(read)


def test_several_prompts_several_answers(client, router) -> None:
    router.outputs["text-generation"] = lambda input_: written(f" after {input_.text}")
    told = ask(client, ["Once", "Twice"], n=2, seed=1)
    assert [(choice.index, choice.text) for choice in told.choices] == [
        (0, " after Once"),
        (1, " after Once"),
        (2, " after Twice"),
        (3, " after Twice"),
    ]
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (10, 8)


@pytest.mark.parametrize("stream", [False, True])
def test_echo(client, router, stream: bool) -> None:
    told = ask(client, ["Once", "Twice"], echo=True, stream=stream)
    texts = {0: "", 1: ""}
    for part in told if stream else [told]:
        for choice in part.choices:
            texts[choice.index] += choice.text
    assert texts == {0: "Once upon a time", 1: "Twice upon a time"}


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs(client, router, stream: bool) -> None:
    told = ask(client, logprobs=2, stream=stream)
    found = [
        choice.logprobs for part in (told if stream else [told]) for choice in part.choices if choice.logprobs
    ]
    assert router.asked[0][2].top_n_tokens == 2
    assert [text for one in found for text in one.tokens] == [" upon", " a", " time"]
    assert [value for one in found for value in one.token_logprobs] == [-0.5, -1.5, -2.5]
    assert [place for one in found for place in one.text_offset] == [0, 5, 7]
    assert [row for one in found for row in one.top_logprobs] == [
        {" upon": -0.5, "other": -9.0},
        {" a": -1.5, "other": -9.0},
        {" time": -2.5, "other": -9.0},
    ]


def test_a_stream(client, router) -> None:
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert [choice.text for chunk in chunks for choice in chunk.choices] == [" upon", " a", " time", ""]
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices] == [
        None,
        None,
        None,
        "stop",
    ]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 9
    assert len({(chunk.id, chunk.created, chunk.object) for chunk in chunks}) == 1
    for chunk in chunks:
        conforms(chunk.to_dict(), "Completion")


def test_streams_of_several_prompts_interleave(client, router) -> None:
    writes(router, "text-generation", written("a", "b"))
    told = [chunk.choices[0] for chunk in ask(client, ["Once", "Twice"], n=2, stream=True)]
    assert [choice.index for choice in told if choice.text] == [0, 1, 2, 3] * 2
    assert sorted(prompts(router)) == [["Once"], ["Once"], ["Twice"], ["Twice"]]
    assert router.closed == ["text-generation"] * 4


async def test_the_async_client(url, router) -> None:
    async with AsyncOpenAI(base_url=f"{url}/models/text-generation/v1", api_key="any") as client:
        told = await client.completions.create(model="any", prompt="Once")
        assert told.choices[0].text == " upon a time"
        stream = await client.completions.create(model="any", prompt="Once", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == " upon a time"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt[1]"),
        ({"prompt": ["a", 7]}, "prompt[1]"),
        ({"prompt": [7, "a"]}, "prompt[1]"),
        ({"prompt": [[7], []]}, "prompt[1]"),
        ({"prompt": [[7], [-1]]}, "prompt[1][0]"),
        ({"prompt": [101]}, "prompt"),
        ({"prompt": ["a"] * 1001}, "prompt"),
        ({"suffix": "b"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"n": 2, "best_of": 3}, "best_of"),
        ({"echo": True, "logprobs": 1}, "logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_what_cannot_be_read_is_named(url, router, body: dict[str, Any], param: str) -> None:
    asked = {"model": "text-generation", "prompt": "Once", **body}
    answered = httpx.post(f"{url}/v1/completions", json=asked)
    assert answered.status_code == 400, answered.text
    error = answered.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert not router.asked


def test_too_many_answers_at_once(client, router) -> None:
    with pytest.raises(openai.APIStatusError, match="1,008 answers") as many:
        ask(client, ["a"] * 63, n=16)
    assert many.value.status_code == 413
    with pytest.raises(openai.APIStatusError, match="at most 64"):
        ask(client, ["a"] * 33, n=2, stream=True)
    assert not router.asked


def test_a_prompt_that_fails_is_named(client, router) -> None:
    def answer(input_: Any) -> Any:
        if input_.text == "bad":
            raise InvalidInput("not this one")
        return ANSWER

    router.outputs["text-generation"] = answer
    with pytest.raises(openai.BadRequestError, match="not this one") as failed:
        ask(client, ["good", "bad"])
    assert failed.value.param == "prompt[1]"
    with pytest.raises(openai.BadRequestError, match="not this one") as failed:
        ask(client, "bad")
    assert failed.value.param is None


def test_errors_are_the_clients_own(client, router) -> None:
    with pytest.raises(
        openai.BadRequestError, match="'Reply in a conversation'; it does not go on with a text"
    ):
        client.completions.create(model="conversational", prompt="Once")
    router.outputs["text-generation"] = always(Overloaded("full"))
    with pytest.raises(openai.RateLimitError, match="full"):
        ask(client)
    writes(router, "text-generation", ANSWER, fails=Overloaded("the replica has gone"))
    chunks = ask(client, stream=True)
    assert next(chunks).choices[0].text == " upon"
    with pytest.raises(openai.APIError, match="the replica has gone"):
        list(chunks)
