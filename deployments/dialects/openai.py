"""The OpenAI dialect: the routes that the `openai` client and compatible clients use.

    OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none").chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "Hello!"}]
    )

Every route exists twice: under /v1 the body names the model, under /models/{model_id}/v1 the path does. A
model's task decides which routes it supports. No route requires an API key, and none checks one.
"""

from functools import cache
from typing import Annotated, Any

from pydantic import Field, create_model

from deployments.dialect import Dialect, Endpoint, Operation, SupportedCall
from deployments.schema import field_types
from deployments.task import Task
from deployments.wire.openai.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    complete_chat,
)
from deployments.wire.openai.completions import COMPLETION, Completion, CompletionRequest, complete_text
from deployments.wire.openai.embeddings import EMBEDDING, Embeddings, EmbeddingsRequest, embed
from deployments.wire.openai.errors import OpenAIFailure, error_response
from deployments.wire.openai.messages import CHAT
from deployments.wire.openai.models import OpenAIModel, OpenAIModels, list_models, show_hub_model, show_model
from deployments.wire.openai.moderations import MODERATION, ModerationRequest, Moderations, moderate
from deployments.wire.openai.ranking import Ranking, RankRequest, ScoreRequest, Scores, rerank, score_pairs
from deployments.wire.openai.requests import DIALECT, OpenAIRequest
from deployments.wire.openai.response_types import OpenAIResponse, ResponseEvent, ResponsesRequest
from deployments.wire.openai.responses import create_response, show_response
from deployments.wire.openai.unsupported_fields import IGNORED_FIELDS, IGNORED_IN_OBJECTS
from deployments.wire.ranking import is_ranking_task

ROOTS = ("/v1", "/models/{model_id}/v1")
CHAT_TYPES = ChatCompletionRequest, ChatCompletion, ChatCompletionChunk
COMPLETION_TYPES = CompletionRequest, Completion, Completion
RESPONSE_TYPES = ResponsesRequest, OpenAIResponse, ResponseEvent
# Method, path, endpoint, summary, and the types of the body, the response and an event of a stream.
ROUTES: tuple[tuple[str, str, Endpoint, str, Any, Any, Any], ...] = (
    ("GET", "models", list_models, "List models", None, OpenAIModels, None),
    ("GET", "models/{model}", show_model, "Show a model", None, OpenAIModel, None),
    ("GET", "models/{organisation}/{model}", show_hub_model, "Show a model", None, OpenAIModel, None),
    ("POST", "chat/completions", complete_chat, "Create a chat completion", *CHAT_TYPES),
    ("POST", "completions", complete_text, "Create a completion of a text", *COMPLETION_TYPES),
    ("POST", "responses", create_response, "Create a response", *RESPONSE_TYPES),
    ("GET", "responses/{response_id}", show_response, "Show a response (not stored: 404)", None, None, None),
    ("POST", "embeddings", embed, "Compute embedding vectors for texts", EmbeddingsRequest, Embeddings, None),
    ("POST", "moderations", moderate, "Classify texts", ModerationRequest, Moderations, None),
    ("POST", "rerank", rerank, "Rank texts by a query", RankRequest, Ranking, None),
    ("POST", "score", score_pairs, "Score the similarity of texts", ScoreRequest, Scores, None),
)


def operations() -> list[Operation]:
    """Return the routes under each root, and Cohere's route."""
    return [
        *(
            Operation(
                method,
                f"{root}/{path}",
                endpoint,
                summary,
                _naming_model(body) if body and root == "/v1" else body,
                response,
                event=event,
            )
            for root in ROOTS
            for method, path, endpoint, summary, body, response, event in ROUTES
        ),
        Operation("POST", "/v2/rerank", rerank, "Rank texts by a query", _naming_model(RankRequest), Ranking),
    ]


@cache
def _naming_model(body: type[OpenAIRequest]) -> type[OpenAIRequest]:
    """Return the type of a request whose path does not name the model, for OpenAPI."""
    model: Any = Annotated[str, Field(min_length=1, description="The model's id.")], ...
    return create_model(f"{body.__name__}WithModel", __base__=body, __doc__=body.__doc__, model=model)


def supported_calls(task: Task, model_id: str) -> list[SupportedCall]:
    """Return the calls that a model of the task supports, with the task's first example as their input."""
    example = task.examples()[0]
    routes: list[tuple[str, str | None, str]] = [
        ("chat/completions", CHAT.field(task), "messages"),
        ("responses", CHAT.field(task), "input"),
        ("completions", COMPLETION.field(task), "prompt"),
        ("embeddings", EMBEDDING.field(task), "input"),
        ("moderations", MODERATION.field(task), "input"),
    ]
    calls = [
        SupportedCall("POST", f"/v1/{path}", {"model": model_id, param: example[field]})
        for path, field, param in routes
        if field is not None
    ]
    streams = [
        SupportedCall("POST", call.path, {**call.body, "stream": True}, streams=True)
        for call in calls
        if task.chunk is not None
    ]
    return [*calls, *streams, *_ranking_calls(task, model_id, example)]


def _ranking_calls(task: Task, model_id: str, example: dict[str, Any]) -> list[SupportedCall]:
    if not is_ranking_task(task):
        return []
    by_type = {type_: example[name] for name, type_ in field_types(task.input).items()}
    query, texts = by_type["text"], by_type["texts"]
    return [
        SupportedCall("POST", "/v1/rerank", {"model": model_id, "query": query, "documents": texts}),
        SupportedCall("POST", "/v1/score", {"model": model_id, "text_1": query, "text_2": texts}),
    ]


dialect = Dialect(
    name=DIALECT,
    error_response=error_response,
    operations=operations,
    supported_calls=supported_calls,
    error=OpenAIFailure,
    ignored_fields=IGNORED_FIELDS | IGNORED_IN_OBJECTS,
    extra_error_responses={
        415: "the Content-Type is not JSON, or the Content-Encoding neither gzip nor deflate"
    },
)
