"""Text Embeddings Inference: vectors, labels, ranks and tokens of texts, as its own servers give them.

    curl 127.0.0.1:8000/models/embeddings/embed -d '{"inputs": "What is Deep Learning?"}'

The same routes without /models/{model_id} ask the cluster's `default_model`, of which `POST /` is the main
route. A list of which one item fails, fails. Errors that the protocol has no name for are Validation where
they are the caller's (HTTP 403, 404, 415), else Backend (504 for a time-out).
"""

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from deployments.dialect import HTTP_STATUS, Dialect, Endpoint, Offer, Operation
from deployments.errors import InferenceError, ModelNotFound, ModelNotReady, TaskMismatch
from deployments.schema import words
from deployments.task import Task
from deployments.wire.http import UnsupportedMedia, json_response, read_body, read_json
from deployments.wire.openai import embeddings as openai_embeddings
from deployments.wire.openai import ranking as openai_ranking
from deployments.wire.tei import types as wire
from deployments.wire.tei.call import DIALECT, Call, Untokenizable
from deployments.wire.tei.model_info import Health, Info, healthy, info

if TYPE_CHECKING:
    from deployments.routing.router import Router

ERROR_TYPE = {
    "overloaded": "Overloaded",
    "unavailable": "Unhealthy",
    "timeout": "Backend",
    "internal": "Backend",
}
SAID: dict[type[InferenceError], tuple[int, str]] = {
    wire.Empty: (400, "Empty"),
    UnsupportedMedia: (415, "Validation"),
    TaskMismatch: (424, "Backend"),
    Untokenizable: (422, "Tokenizer"),
}


def say(error: InferenceError, request_id: str) -> Response:
    usual = {**HTTP_STATUS, "internal": 424}[error.kind], ERROR_TYPE.get(error.kind, "Validation")
    status, error_type = SAID.get(type(error), usual)
    return json_response({"error": str(error), "error_type": error_type}, status)


async def embed(router: "Router", request: Request) -> Response:
    call = Call(router, _model(router, request), "embedding")
    asked = wire.read(wire.TeiEmbedRequest, await _body(request))
    texts = await call.texts(asked.inputs)
    answers = await call.infer(asked, texts)
    return call.tell([answer.embedding for answer in answers], texts, answers.usage)


async def embed_all(router: "Router", request: Request) -> Response:
    call = Call(router, _model(router, request), "embedding")
    asked = wire.read(wire.TeiEmbedAllRequest, await _body(request))
    texts = await call.texts(asked.inputs)
    answers = await call.infer(asked, texts, pooling="none")
    vectors = [[token.values for token in answer.tokens] for answer in answers]
    return call.tell(vectors, texts, answers.usage)


async def embed_sparse(router: "Router", request: Request) -> Response:
    model_id = _model(router, request)
    raise TaskMismatch(
        f"the model {model_id!r} performs {router.task(model_id).name}: no model here is sparse"
    )


async def similarity(router: "Router", request: Request) -> Response:
    call = Call(router, _model(router, request), "reranker")
    asked = wire.read(wire.TeiSimilarityRequest, await _body(request))
    source, sentences = asked.inputs.source_sentence, asked.inputs.sentences
    scores, usage = await call.scores(asked.parameters or wire.SimilarityParameters(), source, sentences)
    return call.tell(scores, [source, *sentences], usage)


async def rerank(router: "Router", request: Request) -> Response:
    """Text Embeddings Inference's form, or with `documents` in the place of `texts`, Cohere's and Jina's."""
    raw = await read_body(request)
    told = read_json(raw)
    if isinstance(told, dict) and "documents" in told:
        return await openai_ranking.rerank(router, _again(router, request, raw, told))
    call = Call(router, _model(router, request), "reranker")
    asked = wire.read(wire.TeiRerankRequest, told)
    scores, usage = await call.scores(asked, asked.query, asked.texts)
    ranks = [
        {
            "index": place,
            "score": scores[place],
            **({"text": asked.texts[place]} if asked.return_text else {}),
        }
        for place in sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    ]
    return call.tell(ranks, [asked.query, *asked.texts], usage)


async def embeddings(router: "Router", request: Request) -> Response:
    """OpenAI's form."""
    raw = await read_body(request)
    return await openai_embeddings.embed(router, _again(router, request, raw, read_json(raw)))


def _again(router: "Router", request: Request, body: bytes, told: Any) -> Request:
    """The request as it was before its body was read; where that names no model, the path does."""
    named = isinstance(told, dict) and told.get("model")
    path_params = request.path_params if named else {"model_id": _model(router, request)}

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    return Request({**request.scope, "path_params": path_params}, receive)


async def predict(router: "Router", request: Request) -> Response:
    call = Call(router, _model(router, request), "classifier")
    asked = wire.read(wire.TeiPredictRequest, await _body(request))
    texts, batch = asked.texts()
    answers = await call.infer(asked, texts, **({"function_to_apply": "none"} if asked.raw_scores else {}))
    labels = [answer.model_dump(include={"labels"})["labels"] for answer in answers]
    return call.tell(labels if batch else labels[0], texts, answers.usage)


async def tokenize(router: "Router", request: Request) -> Response:
    call = Call(router, _model(router, request))
    asked = wire.read(wire.TeiTokenizeRequest, await _body(request))
    texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
    return json_response(await call.tokenize(texts, asked.add_special_tokens))


async def decode(router: "Router", request: Request) -> Response:
    call = Call(router, _model(router, request))
    asked = wire.read(wire.TeiDecodeRequest, await _body(request))
    rows: Any = asked.ids if isinstance(asked.ids[0], list) else [asked.ids]
    return json_response(await call.decode(rows, asked.skip_special_tokens))


MAIN: dict[wire.Kind | None, Endpoint] = {"embedding": embed, "classifier": predict, "reranker": rerank}


async def perform(router: "Router", request: Request) -> Response:
    """What the default model is made for."""
    task = router.task(router.default_model)
    if (main := MAIN.get(wire.kind(task))) is None:
        raise TaskMismatch(f"the default model performs {task.name}: ask for it at /models/{{model_id}}")
    return await main(router, request)


async def show_info(router: "Router", request: Request) -> Response:
    return json_response(info(router.card(router.default_model)).model_dump())


async def ping(router: "Router", request: Request) -> Response:
    """200 while the default model answers; where there is none, once the cluster has settled."""
    try:
        model_id = router.default_model
    except ModelNotFound:
        if not router.settled:
            raise ModelNotReady("the models are still loading") from None
        return json_response(Health().model_dump())
    return json_response(healthy(router.card(model_id)).model_dump())


def _model(router: "Router", request: Request) -> str:
    model_id: str = request.path_params.get("model_id") or router.default_model
    return model_id


async def _body(request: Request) -> Any:
    return read_json(await read_body(request))


# Endpoint and name of the route, summary, body, answer.
ROUTES: tuple[tuple[Any, str, Any, Any], ...] = (
    (embed, "Turn texts into vectors", wire.TeiEmbedRequest, wire.TeiEmbedAnswer),
    (embed_all, "Turn texts' tokens into vectors", wire.TeiEmbedAllRequest, wire.TeiEmbedAllAnswer),
    (embed_sparse, "Refuse: no model here is sparse", wire.TeiEmbedAllRequest, None),
    (
        embeddings,
        "Turn texts into vectors, in OpenAI's form",
        openai_embeddings.EmbeddingsRequest,
        openai_embeddings.Embeddings,
    ),
    (similarity, "Compare a sentence with others", wire.TeiSimilarityRequest, wire.TeiSimilarityAnswer),
    (rerank, "Rank texts by a query", wire.TeiRankRequest, wire.TeiRanking),
    (predict, "Classify texts", wire.TeiPredictRequest, wire.TeiPredictAnswer),
    (tokenize, "Cut texts into tokens", wire.TeiTokenizeRequest, wire.TeiTokenizeAnswer),
    (decode, "Put tokens together", wire.TeiDecodeRequest, wire.TeiDecodeAnswer),
)


def operations() -> list[Operation]:
    main = "Do what the default model is made for", wire.TeiMainRequest, wire.TeiMainAnswer
    return [
        *(
            Operation("POST", f"{place}/{endpoint.__name__}", endpoint, *told)
            for place in ("/models/{model_id}", "")
            for endpoint, *told in ROUTES
        ),
        *(Operation("POST", path, perform, *main) for path in ("/", "/invocations")),
        Operation("GET", "/info", show_info, "Show the default model's facts and limits", answer=Info),
        Operation("GET", "/ping", ping, "Tell whether the default model answers", answer=Health),
    ]


def offers(task: Task, model_id: str) -> list[Offer]:
    """What a model of the task's kind is asked, and what a tokenizer is."""
    example, meant = task.examples()[0], words(task.input)
    by_word = {word: example[name] for name, word in meant.items() if name in example}
    text, texts = by_word.get("text"), by_word.get("texts")
    main: dict[wire.Kind | None, dict[str, Any]] = {
        "embedding": {
            "embed": {"inputs": text},
            "embed_all": {"inputs": text},
            "embeddings": {"input": text},
        },
        "classifier": {"predict": {"inputs": text}},
        "reranker": {
            "rerank": {"query": text, "texts": texts},
            "similarity": {"inputs": {"source_sentence": text, "sentences": texts}},
        },
    }
    tokens = {"tokenize": {"inputs": "Good day"}, "decode": {"ids": [5]}}
    asked = main.get(wire.kind(task), {}) | ({} if "image" in meant.values() else tokens)
    return [Offer("POST", f"/models/{model_id}/{name}", body) for name, body in asked.items()]


dialect = Dialect(
    name=DIALECT,
    say=say,
    operations=operations,
    offers=offers,
    error=wire.TeiFailure,
    refusals={
        400: "a text or a list that is empty",
        415: "a Content-Encoding",
        422: "a request that cannot be read",
    },
)
