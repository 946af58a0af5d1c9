"""Answer Text Embeddings Inference's routes: for the model that a path names, or for the default model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from deployments.dialect import Endpoint
from deployments.errors import ModelNotFound, ModelNotReady, TaskMismatch
from deployments.wire.http import json_response, read_body, read_json, validate
from deployments.wire.model_info import Health, ModelType, model_health, model_info, model_type_of
from deployments.wire.tei import types as wire
from deployments.wire.tei.call import Call

if TYPE_CHECKING:
    from deployments.routing.router import Router


async def embed(router: "Router", request: Request) -> Response:
    call = Call(router, _model(router, request), "embedding")
    asked = validate(wire.TeiEmbedRequest, await _body(request))
    texts = await call.texts(asked.inputs)
    answers = await call.infer(asked, texts)
    return call.tell([answer.embedding for answer in answers], texts, answers.usage)


async def embed_all(router: "Router", request: Request) -> Response:
    call = Call(router, _model(router, request), "embedding")
    asked = validate(wire.TeiEmbedAllRequest, await _body(request))
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
    asked = validate(wire.TeiSimilarityRequest, await _body(request))
    source, sentences = asked.inputs.source_sentence, asked.inputs.sentences
    scores, usage = await call.scores(asked.parameters or wire.SimilarityParameters(), source, sentences)
    return call.tell(scores, [source, *sentences], usage)


async def rerank(router: "Router", request: Request, *, cohere: Endpoint) -> Response:
    """Rank texts. A body with `documents` in place of `texts` is in Cohere's form: `cohere` answers it."""
    raw = await read_body(request)
    told = read_json(raw)
    if isinstance(told, dict) and "documents" in told:
        return await cohere(router, _again(router, request, raw, told))
    call = Call(router, _model(router, request), "reranker")
    asked = validate(wire.TeiRerankRequest, told)
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


async def pass_on(router: "Router", request: Request, *, endpoint: Endpoint) -> Response:
    """Let another dialect's `endpoint` answer; where the body names no model, it gets this route's."""
    raw = await read_body(request)
    return await endpoint(router, _again(router, request, raw, read_json(raw)))


async def predict(router: "Router", request: Request) -> Response:
    call = Call(router, _model(router, request), "classifier")
    asked = validate(wire.TeiPredictRequest, await _body(request))
    texts, batch = asked.texts()
    answers = await call.infer(asked, texts, **({"function_to_apply": "none"} if asked.raw_scores else {}))
    labels = [answer.model_dump(include={"labels"})["labels"] for answer in answers]
    return call.tell(labels if batch else labels[0], texts, answers.usage)


async def tokenize(router: "Router", request: Request) -> Response:
    call = Call(router, _model(router, request))
    asked = validate(wire.TeiTokenizeRequest, await _body(request))
    texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
    return json_response(await call.tokenize(texts, asked.add_special_tokens))


async def decode(router: "Router", request: Request) -> Response:
    call = Call(router, _model(router, request))
    asked = validate(wire.TeiDecodeRequest, await _body(request))
    rows: Any = asked.ids if isinstance(asked.ids[0], list) else [asked.ids]
    return json_response(await call.decode(rows, asked.skip_special_tokens))


async def perform(
    router: "Router", request: Request, *, main: Mapping[ModelType | None, Endpoint]
) -> Response:
    """What the default model is made for: `main` has an endpoint for each kind."""
    task = router.task(router.default_model)
    if (endpoint := main.get(model_type_of(task))) is None:
        raise TaskMismatch(f"the default model performs {task.name}: ask for it at /models/{{model_id}}")
    return await endpoint(router, request)


async def show_info(router: "Router", request: Request) -> Response:
    return json_response(model_info(router.card(router.default_model)).model_dump())


async def ping(router: "Router", request: Request) -> Response:
    """200 while the default model answers; where there is none, once the cluster has settled."""
    try:
        model_id = router.default_model
    except ModelNotFound:
        if not router.startup_complete:
            raise ModelNotReady("the models are still loading") from None
        return json_response(Health().model_dump())
    return json_response(model_health(router.card(model_id)).model_dump())


def _again(router: "Router", request: Request, body: bytes, told: Any) -> Request:
    """The request as it was before its body was read; where that names no model, the path does."""
    named = isinstance(told, dict) and told.get("model")
    path_params = request.path_params if named else {"model_id": _model(router, request)}

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    return Request({**request.scope, "path_params": path_params}, receive)


def _model(router: "Router", request: Request) -> str:
    model_id: str = request.path_params.get("model_id") or router.default_model
    return model_id


async def _body(request: Request) -> Any:
    return read_json(await read_body(request))
