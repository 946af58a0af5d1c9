"""Text Embeddings Inference: vectors, labels, ranks and tokens of texts, as its own servers give them.

    curl 127.0.0.1:8000/models/embeddings/embed -d '{"inputs": "What is Deep Learning?"}'

The same routes without /models/{model_id} ask the cluster's `default_model`, of which `POST /` is the main
route. A list of which one item fails, fails. Errors that the protocol has no name for are Validation where
they are the caller's (HTTP 403, 404, 415), else Backend (504 for a time-out).
"""

from functools import partial
from typing import Any

from pydantic import RootModel

from deployments.dialect import Dialect, Endpoint, Operation, SupportedCall
from deployments.schema import Label
from deployments.task import Task
from deployments.wire.model_info import Health, Info, ModelType
from deployments.wire.openai import embeddings as openai_embeddings
from deployments.wire.openai import ranking as openai_ranking
from deployments.wire.tei import handlers
from deployments.wire.tei import types as wire
from deployments.wire.tei.call import DIALECT
from deployments.wire.tei.errors import TeiFailure, error_response
from deployments.wire.tei.examples import examples

RankRequest = wire.TeiRerankRequest | openai_ranking.RankRequest
Ranking = list[wire.Rank] | openai_ranking.Ranking


class TeiRankRequest(RootModel[RankRequest]):
    """With `documents` in the place of `texts`, Cohere's form."""


class TeiRanking(RootModel[Ranking]):
    """The texts by their places in the request, best first."""


class TeiMainRequest(RootModel[wire.TeiEmbedRequest | wire.TeiPredictRequest | RankRequest]):
    """What the model's kind is asked."""


class TeiMainAnswer(RootModel[list[list[float]] | list[Label] | list[list[Label]] | Ranking]):
    """What the model's kind answers."""


rerank: Endpoint = partial(handlers.rerank, cohere=openai_ranking.rerank)
embeddings: Endpoint = partial(handlers.pass_on, endpoint=openai_embeddings.embed)
MAIN: dict[ModelType | None, Endpoint] = {
    "embedding": handlers.embed,
    "classifier": handlers.predict,
    "reranker": rerank,
}
perform: Endpoint = partial(handlers.perform, main=MAIN)

# Name of the route, endpoint, summary, body, answer.
ROUTES: tuple[tuple[str, Endpoint, str, Any, Any], ...] = (
    ("embed", handlers.embed, "Turn texts into vectors", wire.TeiEmbedRequest, wire.TeiEmbedAnswer),
    (
        "embed_all",
        handlers.embed_all,
        "Turn texts' tokens into vectors",
        wire.TeiEmbedAllRequest,
        wire.TeiEmbedAllAnswer,
    ),
    ("embed_sparse", handlers.embed_sparse, "Refuse: no model here is sparse", wire.TeiEmbedAllRequest, None),
    (
        "embeddings",
        embeddings,
        "Turn texts into vectors, in OpenAI's form",
        openai_embeddings.EmbeddingsRequest,
        openai_embeddings.Embeddings,
    ),
    (
        "similarity",
        handlers.similarity,
        "Compare a sentence with others",
        wire.TeiSimilarityRequest,
        wire.TeiSimilarityAnswer,
    ),
    ("rerank", rerank, "Rank texts by a query", TeiRankRequest, TeiRanking),
    ("predict", handlers.predict, "Classify texts", wire.TeiPredictRequest, wire.TeiPredictAnswer),
    (
        "tokenize",
        handlers.tokenize,
        "Cut texts into tokens",
        wire.TeiTokenizeRequest,
        wire.TeiTokenizeAnswer,
    ),
    ("decode", handlers.decode, "Put tokens together", wire.TeiDecodeRequest, wire.TeiDecodeAnswer),
)


def operations() -> list[Operation]:
    main = "Do what the default model is made for", TeiMainRequest, TeiMainAnswer
    return [
        *(
            Operation("POST", f"{place}/{name}", *told)
            for place in ("/models/{model_id}", "")
            for name, *told in ROUTES
        ),
        *(Operation("POST", path, perform, *main) for path in ("/", "/invocations")),
        Operation(
            "GET", "/info", handlers.show_info, "Show the default model's facts and limits", response=Info
        ),
        Operation("GET", "/ping", handlers.ping, "Tell whether the default model answers", response=Health),
    ]


def supported_calls(task: Task, model_id: str) -> list[SupportedCall]:
    """What a model of the task's kind is asked, and what a tokenizer is."""
    return [
        SupportedCall("POST", f"/models/{model_id}/{name}", body) for name, body in examples(task).items()
    ]


dialect = Dialect(
    name=DIALECT,
    error_response=error_response,
    operations=operations,
    supported_calls=supported_calls,
    error=TeiFailure,
    extra_error_responses={
        400: "a text or a list that is empty",
        415: "a Content-Encoding",
        422: "a request that cannot be read",
    },
)
