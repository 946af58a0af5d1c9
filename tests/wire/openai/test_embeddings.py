"""Embeddings, with the openai client."""

import base64
import json
import struct
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI, OpenAI

from deployments.errors import InvalidInput, Overloaded, TooLarge
from deployments.schema import MAX_TEXT
from deployments.task import TASKS
from deployments.wire.openai.embeddings import encode_base64
from tests.fake_router import FakeRouter
from tests.wire.openai.openai_outputs import assert_matches_schema, failing, summary_of

FLOATS = st.floats(width=32)


def embed(client: OpenAI, input_: Any, **settings: Any) -> Any:
    return client.embeddings.create(model="embeddings", input=input_, **settings)


def set_vectors(router: FakeRouter) -> None:
    """Make the first number of a text's vector the text's length."""
    output = TASKS["embeddings"].output
    router.outputs["embeddings"] = lambda input_: output(embedding=[float(len(input_.text)), 0.1, -0.5])


def test_embeddings_response(url, router) -> None:
    set_vectors(router)
    with OpenAI(base_url=f"{url}/v1", api_key="any", _strict_response_validation=True) as strict:
        embeddings = embed(strict, ["a", "bcd"], encoding_format="float")
    assert [item.index for item in embeddings.data] == [0, 1]
    assert [item.embedding for item in embeddings.data] == [
        pytest.approx([1.0, 0.1, -0.5]),
        pytest.approx([3.0, 0.1, -0.5]),
    ]
    assert (embeddings.usage.prompt_tokens, embeddings.usage.total_tokens) == (14, 14)
    assert (embeddings.object, embeddings.model) == ("list", "embeddings")


def test_base64_embeddings_equal_float_embeddings(client, router) -> None:
    set_vectors(router)
    decoded, plain = embed(client, "a"), embed(client, "a", encoding_format="float")
    assert decoded.data[0].embedding == pytest.approx(plain.data[0].embedding)
    raw = embed(client, "a", encoding_format="base64").data[0].embedding
    assert np.frombuffer(base64.b64decode(raw), "<f4").tolist() == decoded.data[0].embedding


@given(st.lists(FLOATS, max_size=50))
@settings(deadline=None)
def test_base64_round_trip_is_exact(values: list[float]) -> None:
    decoded = np.frombuffer(base64.b64decode(encode_base64(values)), "<f4")
    assert struct.pack(f"<{len(values)}f", *values) == decoded.tobytes()
    assert np.array_equal(decoded, np.array(values, "<f4"), equal_nan=True)


@pytest.mark.parametrize("encoding_format", [None, "float", "base64"])
def test_embeddings_match_the_schema(url, router, encoding_format: str | None) -> None:
    body = {"model": "embeddings", "input": "a", "encoding_format": encoding_format, "user": "me"}
    response = httpx.post(f"{url}/v1/embeddings", json=body)
    assert_matches_schema(response.json(), "Embeddings")
    assert isinstance(response.json()["data"][0]["embedding"], str if encoding_format == "base64" else list)


@pytest.mark.parametrize(
    ("input_", "texts"),
    [
        ("One", ["One"]),
        (["One", "Two"], ["One", "Two"]),
        ([3, 2], ["xxx xx"]),
        ([[0, 3, 2, 0], [4]], ["[S] xxx xx [S]", "xxxx"]),
    ],
    ids=str,
)
def test_input_of_texts_and_token_ids(client, router, input_: Any, texts: list[str]) -> None:
    assert len(embed(client, input_).data) == len(texts)
    assert [item.text for item in router.received[0].inputs] == texts


def test_dimensions_become_a_task_parameter(client, router) -> None:
    embed(client, "a", dimensions=2)
    assert router.received[0].params.model_dump(exclude_unset=True) == {"truncate": False, "dimensions": 2}


async def test_async_openai_client(url, router) -> None:
    async with AsyncOpenAI(base_url=f"{url}/models/embeddings/v1", api_key="any") as client:
        embeddings = await client.embeddings.create(model="any", input="a")
        assert embeddings.data[0].embedding == [0.5, 0.5]


def test_error_names_the_text(client, router) -> None:
    def compute_embedding(input_: Any) -> Any:
        if input_.text == "bad":
            raise InvalidInput("`dimensions` is 9; this model has 2", field="dimensions")
        return TASKS["embeddings"].output(embedding=[1.0])

    router.outputs["embeddings"] = compute_embedding
    with pytest.raises(openai.BadRequestError, match="this model has 2") as error:
        embed(client, ["good", "bad"])
    assert error.value.param == "input[1]"
    with pytest.raises(openai.BadRequestError) as error:
        embed(client, "bad")
    assert error.value.param == "dimensions"
    router.outputs["embeddings"] = failing(Overloaded("full"))
    with pytest.raises(openai.RateLimitError):
        embed(client, ["a", "b"])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": ["a"] * 1001}, "input"),
        ({"input": [1, 200]}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": "two"}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_invalid_embeddings_field_returns_400_that_names_it(
    url, router, body: dict[str, Any], param: str
) -> None:
    response = httpx.post(f"{url}/models/embeddings/v1/embeddings", json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
    assert not router.received


def test_too_long_text_returns_413(client, router) -> None:
    with pytest.raises(openai.APIStatusError, match="`input`: the text has 1,000,001 characters") as error:
        embed(client, "a" * (MAX_TEXT + 1))
    assert (error.value.status_code, error.value.param) == (413, "input")


def test_too_many_token_ids_return_413(client, router, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> list[str]:
        raise TooLarge("there are 1,000,001 token ids")

    monkeypatch.setattr(router, "decode", refuse)
    with pytest.raises(openai.APIStatusError, match="`input`: there are") as error:
        embed(client, [[1]])
    assert (error.value.status_code, error.value.param) == (413, "input")


def test_model_without_embeddings_returns_400(client, router) -> None:
    with pytest.raises(openai.BadRequestError, match=f"{summary_of('sentiment')}; it cannot embed texts"):
        client.embeddings.create(model="sentiment", input="a")
