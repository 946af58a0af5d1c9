"""Errors in OpenAI's format."""

from typing import Any

import openai
import pytest
from openai import OpenAI

from deployments import errors
from deployments.errors import InferenceError, ModelNotFound, ModelNotReady, Overloaded
from tests.wire.openai.openai_outputs import assert_matches_schema, failing


@pytest.mark.parametrize(
    ("kind", "status", "error_type", "code", "client_exception"),
    [
        ("invalid", 400, "invalid_request_error", None, openai.BadRequestError),
        ("unauthorized", 401, "authentication_error", "invalid_api_key", openai.AuthenticationError),
        ("forbidden", 403, "permission_error", None, openai.PermissionDeniedError),
        ("not_found", 404, "invalid_request_error", "model_not_found", openai.NotFoundError),
        ("too_large", 413, "invalid_request_error", None, openai.APIStatusError),
        ("overloaded", 429, "rate_limit_error", "rate_limit_exceeded", openai.RateLimitError),
        ("unavailable", 503, "server_error", "model_not_ready", openai.InternalServerError),
        ("timeout", 504, "server_error", "timeout", openai.InternalServerError),
        ("internal", 500, "server_error", None, openai.InternalServerError),
    ],
)
def test_status_and_code_of_each_kind_of_error(
    client, router, kind: str, status: int, error_type: str, code: str | None, client_exception: Any
) -> None:
    error_class = next(
        type_
        for type_ in vars(errors).values()
        if isinstance(type_, type)
        and issubclass(type_, InferenceError)
        and type_.kind == kind
        and type_ is not InferenceError
    )
    router.outputs["embeddings"] = failing(error_class("not today"))
    with pytest.raises(client_exception, match="not today") as error:
        client.embeddings.create(model="embeddings", input="a")
    assert error.value.status_code == status
    assert (error.value.type, error.value.code) == (error_type, code)
    assert error.value.param == ("model" if error_class is ModelNotFound else None)
    assert error.value.response.headers.get("retry-after") == {"overloaded": "1", "unavailable": "2"}.get(
        kind
    )
    assert (error.value.response.headers.get("x-should-retry") == "false") == (kind == "internal")
    assert_matches_schema({"error": error.value.body}, "OpenAIFailure")


def test_quoted_words_of_a_message_are_not_reported_as_the_field(client, router) -> None:
    router.outputs["embeddings"] = failing(ModelNotReady("`engine.name` is vllm, which is not installed"))
    with pytest.raises(openai.InternalServerError, match="is not installed") as error:
        client.embeddings.create(model="embeddings", input="a")
    assert error.value.param is None


@pytest.mark.parametrize(
    ("failure", "num_attempts"), [(ValueError("secret"), 1), (Overloaded("full", retry_after=0.01), 2)]
)
def test_client_retries_retryable_errors(url, router, failure: Exception, num_attempts: int) -> None:
    router.outputs["embeddings"] = failing(failure)
    with (
        OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=1) as client,
        pytest.raises(openai.APIStatusError) as error,
    ):
        client.embeddings.create(model="embeddings", input="a")
    assert len(router.received) == num_attempts
    assert "secret" not in str(error.value.body)


def test_unavailable_model_returns_503(client) -> None:
    with pytest.raises(openai.InternalServerError) as error:
        client.embeddings.create(model="broken", input="a")
    assert (error.value.status_code, error.value.code) == (503, "model_not_ready")
