"""The OpenAI dialect: what the `openai` client, and all that speaks like it, sends and reads.

    OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none").chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "Hello!"}]
    )

Every route is there twice: under /v1 the body names the model, under /models/{model_id}/v1 the path does.
What a model can be asked is read off its task. No route asks for a key; one that is sent is not looked at.
"""

from typing import Any

from deployments.dialect import Dialect, Operation, SupportedCall
from deployments.schema import field_types
from deployments.task import Task
from deployments.wire.openai.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    complete_chat,
)
from deployments.wire.openai.completions import COMPLETION, Completion, CompletionRequest, complete
from deployments.wire.openai.embeddings import EMBEDDING, Embeddings, EmbeddingsRequest, embed
from deployments.wire.openai.errors import OpenAIFailure, error_response
from deployments.wire.openai.messages import CHAT
from deployments.wire.openai.models import OpenAIModel, OpenAIModels, list_models, show_model, show_no_model
from deployments.wire.openai.moderations import MODERATION, ModerationRequest, Moderations, moderate
from deployments.wire.openai.ranking import Ranking, RankRequest, ScoreRequest, Scores, rerank, score
from deployments.wire.openai.requests import DIALECT
from deployments.wire.openai.response_types import OpenAIResponse, ResponseEvent, ResponsesRequest
from deployments.wire.openai.responses import respond, show_response
from deployments.wire.ranking import compares

ROOTS = ("/v1", "/models/{model_id}/v1")


def operations() -> list[Operation]:
    """The routes, under each root."""
    return [
        *(operation for root in ROOTS for operation in _routes(root)),
        Operation("POST", "/v2/rerank", rerank, "Put texts in order", body=RankRequest, response=Ranking),
    ]


def _routes(root: str) -> list[Operation]:
    chat = {"body": ChatCompletionRequest, "response": ChatCompletion, "event": ChatCompletionChunk}
    completion = {"body": CompletionRequest, "response": Completion, "event": Completion}
    response = {"body": ResponsesRequest, "response": OpenAIResponse, "event": ResponseEvent}
    embeddings: dict[str, Any] = {"body": EmbeddingsRequest, "response": Embeddings}
    told: list[tuple[str, str, Any, str, dict[str, Any]]] = [
        ("GET", "models", list_models, "List models", {"response": OpenAIModels}),
        ("GET", "models/{model}", show_model, "Show one model", {"response": OpenAIModel}),
        ("GET", "models/{organisation}/{model}", show_no_model, "Show one model", {"response": OpenAIModel}),
        ("POST", "chat/completions", complete_chat, "Go on with a conversation", chat),
        ("POST", "completions", complete, "Go on with a text", completion),
        ("POST", "responses", respond, "Answer a text or a conversation", response),
        ("GET", "responses/{response_id}", show_response, "Show none: responses are not stored", {}),
        ("POST", "embeddings", embed, "Turn texts into vectors", embeddings),
        (
            "POST",
            "moderations",
            moderate,
            "Label texts",
            {"body": ModerationRequest, "response": Moderations},
        ),
        ("POST", "rerank", rerank, "Put texts in order", {"body": RankRequest, "response": Ranking}),
        ("POST", "score", score, "Tell how near texts are", {"body": ScoreRequest, "response": Scores}),
    ]
    return [
        Operation(method, f"{root}/{path}", endpoint, summary, **types)
        for method, path, endpoint, summary, types in told
    ]


def supported_calls(task: Task, model_id: str) -> list[SupportedCall]:
    """What a model of the task can be asked, by the task's first example."""
    example = task.examples()[0]
    asked: list[tuple[str, str | None, str]] = [
        ("chat/completions", CHAT.field(task), "messages"),
        ("responses", CHAT.field(task), "input"),
        ("completions", COMPLETION.field(task), "prompt"),
        ("embeddings", EMBEDDING.field(task), "input"),
        ("moderations", MODERATION.field(task), "input"),
    ]
    found = [
        SupportedCall("POST", f"/v1/{path}", {"model": model_id, param: example[field]})
        for path, field, param in asked
        if field is not None
    ]
    streamed = [
        SupportedCall("POST", offer.path, {**offer.body, "stream": True}, streams=True)
        for offer in found
        if task.chunk is not None
    ]
    return [*found, *streamed, *_comparisons(task, model_id, example)]


def _comparisons(task: Task, model_id: str, example: dict[str, Any]) -> list[SupportedCall]:
    if not compares(task):
        return []
    by_word = {word: example[name] for name, word in field_types(task.input).items()}
    query, texts = by_word["text"], by_word["texts"]
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
    extra_error_responses={415: "a Content-Type that is no JSON"},
)
