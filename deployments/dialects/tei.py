"""Text Embeddings Inference: vectors, labels, ranks and tokens of texts, in the form of TEI's own servers.

    curl 127.0.0.1:8000/models/embeddings/embed -d '{"inputs": "What is Deep Learning?"}'

The same routes without /models/{model_id} call the cluster's `default_model`; `POST /` is its main route. If
one item of a list fails, the whole request fails. An error without a name in the protocol has the type
Validation if the client caused it (HTTP 403, 404, 415), otherwise Backend (504 for a time-out).
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
from deployments.wire.tei.call import NAME
from deployments.wire.tei.errors import TeiFailure, error_response
from deployments.wire.tei.examples import examples

RankRequest = wire.TeiRerankRequest | openai_ranking.RankRequest
Ranking = list[wire.Rank] | openai_ranking.Ranking


class TeiRankRequest(RootModel[RankRequest]):
    """A rerank request of TEI; with `documents` in place of `texts`, a rerank request of Cohere."""


class TeiRanking(RootModel[Ranking]):
    """The texts' indices in the request and their scores, best first."""


class TeiMainRequest(RootModel[wire.TeiEmbedRequest | wire.TeiPredictRequest | RankRequest]):
    """A request to the main route of a model of any type."""


class TeiMainAnswer(RootModel[list[list[float]] | list[Label] | list[list[Label]] | Ranking]):
    """A response of the main route of a model of any type."""


rerank: Endpoint = partial(handlers.rerank, cohere=openai_ranking.rerank)
embeddings: Endpoint = partial(handlers.delegate, endpoint=openai_embeddings.embed)
MAIN_ENDPOINTS: dict[ModelType | None, Endpoint] = {
    "embedding": handlers.embed,
    "classifier": handlers.predict,
    "reranker": rerank,
}
run_default_model: Endpoint = partial(handlers.run_default_model, main_endpoints=MAIN_ENDPOINTS)

# Name of the route, endpoint, summary, request body, response.
ROUTES: tuple[tuple[str, Endpoint, str, Any, Any], ...] = (
    ("embed", handlers.embed, "Compute vectors of texts", wire.TeiEmbedRequest, wire.TeiEmbedAnswer),
    (
        "embed_all",
        handlers.embed_all,
        "Compute vectors of texts' tokens",
        wire.TeiEmbedAllRequest,
        wire.TeiEmbedAllAnswer,
    ),
    (
        "embed_sparse",
        handlers.embed_sparse,
        "Not supported: no model here is sparse",
        wire.TeiEmbedAllRequest,
        None,
    ),
    (
        "embeddings",
        embeddings,
        "Compute vectors of texts, in OpenAI's format",
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
        "Tokenize texts",
        wire.TeiTokenizeRequest,
        wire.TeiTokenizeAnswer,
    ),
    ("decode", handlers.decode, "Decode token ids to texts", wire.TeiDecodeRequest, wire.TeiDecodeAnswer),
)


def operations() -> list[Operation]:
    """Return the routes for a named model and for the default model."""
    main = "Perform the default model's task", TeiMainRequest, TeiMainAnswer
    info, ping = "Show the default model's facts and limits", "Check whether the default model is ready"
    return [
        *(
            Operation("POST", f"{prefix}/{name}", *operation)
            for prefix in ("/models/{model_id}", "")
            for name, *operation in ROUTES
        ),
        *(Operation("POST", path, run_default_model, *main) for path in ("/", "/invocations")),
        Operation("GET", "/info", handlers.show_info, info, response=Info),
        Operation("GET", "/ping", handlers.ping, ping, response=Health),
    ]


def supported_calls(task: Task, model_id: str) -> list[SupportedCall]:
    """Return calls of the routes for the task's type of model, and of the tokenizer's routes."""
    return [
        SupportedCall("POST", f"/models/{model_id}/{name}", body) for name, body in examples(task).items()
    ]


dialect = Dialect(
    name=NAME,
    error_response=error_response,
    operations=operations,
    supported_calls=supported_calls,
    error=TeiFailure,
    ignored_fields={"rerank.raw_scores"},  # scores are always cosines
    extra_error_responses={
        400: "an empty text or list",
        415: "a Content-Encoding that is neither gzip nor deflate",
        422: "a request of the wrong shape",
    },
)
