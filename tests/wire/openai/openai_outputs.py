"""Outputs of a generating model, whole and token by token, and a check of answers against OpenAPI."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import cache
from typing import Any

import jsonschema

from deployments.dialects.openai import dialect
from deployments.gateway.openapi import document
from deployments.generation.output import Details, Generated, GeneratedChunk, StreamDetails, Token
from tests.fake_router import FakeRouter

END = Token(id=2, text="</s>", logprob=-0.5, special=True)


def conforms(answer: Any, name: str) -> None:
    """Check an answer against a schema of the dialect's OpenAPI document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": _components()}
    jsonschema.validate(answer, schema, cls=jsonschema.Draft202012Validator)


@cache
def _components() -> Any:
    return document([dialect])["components"]


def tokens(*texts: str) -> list[Token]:
    return [
        Token(id=10 + place, text=text, logprob=-place - 0.5, special=False)
        for place, text in enumerate(texts)
    ]


def likeliest(token: Token) -> list[Token]:
    """The token itself, and one that was less likely."""
    return [token, Token(id=99, text="other", logprob=-9.0, special=False)]


def written(*texts: str, finish: Any = "eos_token", read: int = 5) -> Generated:
    """A whole answer of the `texts`, a token each, and the sign that ends it, if it has ended."""
    made = tokens(*texts) + ([END] if finish == "eos_token" else [])
    details = Details(
        finish_reason=finish,
        generated_tokens=len(made),
        input_length=read,
        seed=None,
        tokens=made,
        top_tokens=[likeliest(token) for token in made],
    )
    return Generated(generated_text="".join(texts), details=details)


def streamed(answer: Generated) -> list[GeneratedChunk]:
    """The chunks of the same answer."""
    assert answer.details is not None
    facts = StreamDetails(**answer.details.model_dump(include={*StreamDetails.model_fields}))
    made = answer.details.tokens
    return [
        GeneratedChunk(
            index=place,
            token=token,
            top_tokens=likeliest(token),
            generated_text=answer.generated_text if place == len(made) else None,
            details=facts if place == len(made) else None,
        )
        for place, token in enumerate(made, 1)
    ]


def writes(router: FakeRouter, model_id: str, answer: Generated, *, fails: Exception | None = None) -> None:
    """Let a model give this answer, whole and streamed; `fails` comes in place of a stream's last chunk."""

    async def stream(_: Any) -> AsyncGenerator[Any, None]:
        chunks = streamed(answer)
        for chunk in chunks[:-1] if fails else chunks:
            yield chunk
            await asyncio.sleep(0)  # as others may come between
        if fails:
            raise fails

    router.outputs[model_id] = lambda _: answer
    router.streams[model_id] = stream


def always(error: Exception) -> Callable[[Any], Any]:
    """A model that only fails."""

    def fail(_: Any) -> Any:
        raise error

    return fail
