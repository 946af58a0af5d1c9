"""Outputs of a text-generation model, whole and as chunks, and a check of responses against OpenAPI."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import cache
from typing import Any

import jsonschema

from deployments.dialects.openai import dialect
from deployments.gateway.openapi import document
from deployments.generation.output import Details, Generated, GeneratedChunk, StreamDetails, Token
from deployments.task import TASKS
from tests.fake_router import FakeRouter

END_OF_SEQUENCE = Token(id=2, text="</s>", logprob=-0.5, special=True)


def assert_matches_schema(response: Any, component: str) -> None:
    """Validate a response against a schema of the dialect's OpenAPI document."""
    schema = {"$ref": f"#/components/schemas/{component}", "components": _components()}
    jsonschema.validate(response, schema, cls=jsonschema.Draft202012Validator)


@cache
def _components() -> Any:
    return document([dialect])["components"]


def summary_of(task: str) -> str:
    """Return a task's summary as error messages quote it."""
    return repr(TASKS[task].summary.rstrip("."))


def _tokens(*texts: str) -> list[Token]:
    return [
        Token(id=10 + index, text=text, logprob=-index - 0.5, special=False)
        for index, text in enumerate(texts)
    ]


def _top_tokens(token: Token) -> list[Token]:
    """Return the token and a less likely one."""
    return [token, Token(id=99, text="other", logprob=-9.0, special=False)]


def generated(*texts: str, finish_reason: Any = "eos_token", input_length: int = 5) -> Generated:
    """Return the output with these texts, one token each, and an end-of-sequence token if it finished."""
    tokens = _tokens(*texts) + ([END_OF_SEQUENCE] if finish_reason == "eos_token" else [])
    details = Details(
        finish_reason=finish_reason,
        generated_tokens=len(tokens),
        input_length=input_length,
        seed=None,
        tokens=tokens,
        top_tokens=[_top_tokens(token) for token in tokens],
    )
    return Generated(generated_text="".join(texts), details=details)


def to_chunks(output: Generated) -> list[GeneratedChunk]:
    """Return the chunks of an output's stream."""
    assert output.details is not None
    details = StreamDetails(**output.details.model_dump(include={*StreamDetails.model_fields}))
    tokens = output.details.tokens
    return [
        GeneratedChunk(
            index=index,
            token=token,
            top_tokens=_top_tokens(token),
            generated_text=output.generated_text if index == len(tokens) else None,
            details=details if index == len(tokens) else None,
        )
        for index, token in enumerate(tokens, 1)
    ]


def set_output(
    router: FakeRouter, model_id: str, output: Generated, *, stream_error: Exception | None = None
) -> None:
    """Make a model return an output, whole or streamed; `stream_error` replaces a stream's last chunk."""

    async def stream(_: Any) -> AsyncGenerator[Any, None]:
        chunks = to_chunks(output)
        for chunk in chunks[:-1] if stream_error else chunks:
            yield chunk
            await asyncio.sleep(0)  # chunks of other streams may arrive in between
        if stream_error:
            raise stream_error

    router.outputs[model_id] = lambda _: output
    router.streams[model_id] = stream


def failing(error: Exception) -> Callable[[Any], Any]:
    """Return a model that always raises the error."""

    def fail(_: Any) -> Any:
        raise error

    return fail
