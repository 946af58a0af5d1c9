"""Completions, with the openai client."""

import json
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from deployments.errors import InvalidInput, Overloaded
from tests.fake_router import FakeRouter
from tests.wire.openai.openai_outputs import assert_matches_schema, failing, generated, set_output, summary_of

OUTPUT = generated(" upon", " a", " time")


@pytest.fixture
def router(router: FakeRouter) -> FakeRouter:
    set_output(router, "text-generation", OUTPUT)
    return router


def complete(client: OpenAI, prompt: Any = "Once", **settings: Any) -> Any:
    return client.completions.create(model="text-generation", prompt=prompt, **settings)


def task_prompts(router: FakeRouter) -> list[list[str]]:
    return [[input_.text for input_ in inputs] for _, inputs, _ in router.received]


def test_completion_response(url, router) -> None:
    with OpenAI(base_url=f"{url}/v1", api_key="any", _strict_response_validation=True) as strict:
        completion = complete(strict)
    (choice,) = completion.choices
    assert (choice.index, choice.text, choice.finish_reason) == (0, " upon a time", "stop")
    assert (
        completion.usage.prompt_tokens,
        completion.usage.completion_tokens,
        completion.usage.total_tokens,
    ) == (5, 4, 9)
    assert (completion.object, completion.model, completion.system_fingerprint) == (
        "text_completion",
        "text-generation",
        "714eb0f",
    )
    assert completion.id.startswith("cmpl-")
    assert_matches_schema(completion.to_dict(), "Completion")
    assert router.received[0].params.model_dump(exclude_unset=True) == {"details": True}


def test_sampling_settings_become_task_parameters(client, router) -> None:
    complete(client, max_tokens=7, temperature=0.5, stop="\n", seed=3, n=2, best_of=2, logprobs=0)
    assert [params.model_dump(exclude_unset=True) for _, _, params in router.received] == [
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
    ("prompt", "texts"),
    [
        ("Once", ["Once"]),
        (["Once", "Twice"], ["Once", "Twice"]),
        ([3, 2], ["xxx xx"]),
        ([[3, 2], [4]], ["xxx xx", "xxxx"]),
        ([0, 3, 2], ["[S] xxx xx"]),
        ([0, 3, 0, 2], ["[S] xxx [S] xx"]),
        ([0], ["[S]"]),
    ],
    ids=str,
)
def test_prompts_of_texts_and_token_ids(client, router, prompt: Any, texts: list[str]) -> None:
    """The model reads the token ids as they are; their text is for the echo."""
    completion = complete(client, prompt)
    assert task_prompts(router) == [texts]
    given = [] if isinstance(prompt, str) or isinstance(prompt[0], str) else prompt
    expected = given if not given or isinstance(given[0], list) else [given]
    assert [item.token_ids for item in router.received[0].inputs if item.token_ids] == expected
    assert len(completion.choices) == len(texts)
    assert completion.usage.prompt_tokens == 5 * len(texts)


def test_n_choices_of_several_prompts_are_ordered_by_prompt(client, router) -> None:
    router.outputs["text-generation"] = lambda input_: generated(f" after {input_.text}")
    completion = complete(client, ["Once", "Twice"], n=2, seed=1)
    assert [(choice.index, choice.text) for choice in completion.choices] == [
        (0, " after Once"),
        (1, " after Once"),
        (2, " after Twice"),
        (3, " after Twice"),
    ]
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (10, 8)


@pytest.mark.parametrize("stream", [False, True])
def test_echo_starts_each_text_with_its_prompt(client, router, stream: bool) -> None:
    completion = complete(client, ["Once", "Twice"], echo=True, stream=stream)
    texts = {0: "", 1: ""}
    for part in completion if stream else [completion]:
        for choice in part.choices:
            texts[choice.index] += choice.text
    assert texts == {0: "Once upon a time", 1: "Twice upon a time"}


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs(client, router, stream: bool) -> None:
    completion = complete(client, logprobs=2, stream=stream)
    parts = completion if stream else [completion]
    logprobs = [choice.logprobs for part in parts for choice in part.choices if choice.logprobs]
    assert router.received[0].params.top_n_tokens == 2
    assert [text for part in logprobs for text in part.tokens] == [" upon", " a", " time"]
    assert [value for part in logprobs for value in part.token_logprobs] == [-0.5, -1.5, -2.5]
    assert [offset for part in logprobs for offset in part.text_offset] == [0, 5, 7]
    assert [likeliest for part in logprobs for likeliest in part.top_logprobs] == [
        {" upon": -0.5, "other": -9.0},
        {" a": -1.5, "other": -9.0},
        {" time": -2.5, "other": -9.0},
    ]


def test_stream_chunks(client, router) -> None:
    chunks = list(complete(client, stream=True, stream_options={"include_usage": True}))
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
        assert_matches_schema(chunk.to_dict(), "Completion")


def test_chunks_of_several_prompts_interleave(client, router) -> None:
    set_output(router, "text-generation", generated("a", "b"))
    choices = [chunk.choices[0] for chunk in complete(client, ["Once", "Twice"], n=2, stream=True)]
    assert [choice.index for choice in choices if choice.text] == [0, 1, 2, 3] * 2
    assert sorted(task_prompts(router)) == [["Once"], ["Once"], ["Twice"], ["Twice"]]
    assert router.closed_streams == ["text-generation"] * 4


async def test_async_openai_client(url, router) -> None:
    async with AsyncOpenAI(base_url=f"{url}/models/text-generation/v1", api_key="any") as client:
        completion = await client.completions.create(model="any", prompt="Once")
        assert completion.choices[0].text == " upon a time"
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
def test_invalid_field_returns_400_that_names_it(url, router, body: dict[str, Any], param: str) -> None:
    body = {"model": "text-generation", "prompt": "Once", **body}
    response = httpx.post(f"{url}/v1/completions", json=body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert not router.received


def test_too_many_choices_return_413(client, router) -> None:
    with pytest.raises(openai.APIStatusError, match="1,008 choices") as error:
        complete(client, ["a"] * 63, n=16)
    assert error.value.status_code == 413
    with pytest.raises(openai.APIStatusError, match="at most 64"):
        complete(client, ["a"] * 33, n=2, stream=True)
    assert not router.received


def test_error_names_the_prompt(client, router) -> None:
    def generate(input_: Any) -> Any:
        if input_.text == "bad":
            raise InvalidInput("not this one")
        return OUTPUT

    router.outputs["text-generation"] = generate
    with pytest.raises(openai.BadRequestError, match="not this one") as error:
        complete(client, ["good", "bad"])
    assert error.value.param == "prompt[1]"
    with pytest.raises(openai.BadRequestError, match="not this one") as error:
        complete(client, "bad")
    assert error.value.param is None


def test_errors_raise_the_openai_clients_exceptions(client, router) -> None:
    with pytest.raises(
        openai.BadRequestError, match=f"{summary_of('conversational')}; it cannot complete a text"
    ):
        client.completions.create(model="conversational", prompt="Once")
    router.outputs["text-generation"] = failing(Overloaded("full"))
    with pytest.raises(openai.RateLimitError, match="full"):
        complete(client)
    set_output(router, "text-generation", OUTPUT, stream_error=Overloaded("the replica has gone"))
    chunks = complete(client, stream=True)
    assert next(chunks).choices[0].text == " upon"
    with pytest.raises(openai.APIError, match="the replica has gone"):
        list(chunks)
