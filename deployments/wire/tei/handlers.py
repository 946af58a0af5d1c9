"""Handle Text Embeddings Inference's routes, for the model that a path names or for the default model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from deployments.dialect import Endpoint
from deployments.errors import ModelNotFound, ModelNotReady, TaskMismatch
from deployments.wire.http import decompressed_scope, json_response, read_body, read_json, validate
from deployments.wire.model_info import Health, ModelType, model_health, model_info, model_type_of
from deployments.wire.tei import types as wire
from deployments.wire.tei.call import TeiCall

if TYPE_CHECKING:
    from deployments.routing.router import Router


async def embed(router: "Router", request: Request) -> Response:
    call = TeiCall(router, _model_id(router, request), "embedding")
    body = validate(wire.TeiEmbedRequest, await _parse_json(request))
    texts = await call.decode_inputs(body.inputs)
    outputs = await call.infer(body, texts)
    return call.response([output.embedding for output in outputs], texts, outputs.usage)


async def embed_all(router: "Router", request: Request) -> Response:
    call = TeiCall(router, _model_id(router, request), "embedding")
    body = validate(wire.TeiEmbedAllRequest, await _parse_json(request))
    texts = await call.decode_inputs(body.inputs)
    outputs = await call.infer(body, texts, pooling="none")
    vectors = [[token.values for token in output.tokens] for output in outputs]
    return call.response(vectors, texts, outputs.usage)


async def embed_sparse(router: "Router", request: Request) -> Response:
    model_id = _model_id(router, request)
    raise TaskMismatch(
        f"the model {model_id!r} performs {router.task(model_id).name}; no model here computes sparse vectors"
    )


async def similarity(router: "Router", request: Request) -> Response:
    call = TeiCall(router, _model_id(router, request), "reranker")
    body = validate(wire.TeiSimilarityRequest, await _parse_json(request))
    source, sentences = body.inputs.source_sentence, body.inputs.sentences
    scores, usage = await call.scores(body.parameters or wire.SimilarityParameters(), source, sentences)
    return call.response(scores, [source, *sentences], usage)


async def rerank(router: "Router", request: Request, *, cohere: Endpoint) -> Response:
    """Rank texts. The endpoint `cohere` handles a body with `documents` in place of `texts`."""
    raw = await read_body(request)
    value = read_json(raw)
    if isinstance(value, dict) and "documents" in value and "texts" not in value:
        return await cohere(router, _replayed(router, request, raw, value))
    call = TeiCall(router, _model_id(router, request), "reranker")
    body = validate(wire.TeiRerankRequest, value)
    scores, usage = await call.scores(body, body.query, body.texts)
    ranks = [
        {
            "index": index,
            "score": scores[index],
            **({"text": body.texts[index]} if body.return_text else {}),
        }
        for index in sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    ]
    return call.response(ranks, [body.query, *body.texts], usage)


async def delegate(router: "Router", request: Request, *, endpoint: Endpoint) -> Response:
    """Call another dialect's `endpoint`, with this route's model if the body names none."""
    raw = await read_body(request)
    return await endpoint(router, _replayed(router, request, raw, read_json(raw)))


async def predict(router: "Router", request: Request) -> Response:
    call = TeiCall(router, _model_id(router, request), "classifier")
    body = validate(wire.TeiPredictRequest, await _parse_json(request))
    texts, batch = body.texts()
    outputs = await call.infer(body, texts, **({"function_to_apply": "none"} if body.raw_scores else {}))
    labels = [output.model_dump(include={"labels"})["labels"] for output in outputs]
    return call.response(labels if batch else labels[0], texts, outputs.usage)


async def tokenize(router: "Router", request: Request) -> Response:
    call = TeiCall(router, _model_id(router, request))
    body = validate(wire.TeiTokenizeRequest, await _parse_json(request))
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
    return json_response(await call.tokenize(texts, body.add_special_tokens))


async def decode(router: "Router", request: Request) -> Response:
    call = TeiCall(router, _model_id(router, request))
    body = validate(wire.TeiDecodeRequest, await _parse_json(request))
    ids: Any = body.ids if isinstance(body.ids[0], list) else [body.ids]
    return json_response(await call.decode(ids, body.skip_special_tokens))


async def run_default_model(
    router: "Router", request: Request, *, main_endpoints: Mapping[ModelType | None, Endpoint]
) -> Response:
    """Call the main endpoint of the default model's type."""
    task = router.task(router.default_model)
    if (endpoint := main_endpoints.get(model_type_of(task))) is None:
        raise TaskMismatch(
            f"the default model performs {task.name}, which has no route here; use /models/{{model_id}}"
        )
    return await endpoint(router, request)


async def show_info(router: "Router", request: Request) -> Response:
    return json_response(model_info(router.card(router.default_model)).model_dump())


async def ping(router: "Router", request: Request) -> Response:
    """Return 200 if the default model is ready; if the cluster has none, once startup is complete."""
    try:
        model_id = router.default_model
    except ModelNotFound:
        if not router.startup_complete:
            raise ModelNotReady("the models are still loading") from None
        return json_response(Health().model_dump())
    return json_response(model_health(router.card(model_id)).model_dump())


def _replayed(router: "Router", request: Request, raw: bytes, value: Any) -> Request:
    """Return the request with its body unread; if the body names no model, the path parameters do."""
    has_model = isinstance(value, dict) and value.get("model")
    path_params = request.path_params if has_model else {"model_id": _model_id(router, request)}

    async def receive() -> Message:
        return {"type": "http.request", "body": raw}

    return Request({**decompressed_scope(request.scope), "path_params": path_params}, receive)


def _model_id(router: "Router", request: Request) -> str:
    model_id: str = request.path_params.get("model_id") or router.default_model
    return model_id


async def _parse_json(request: Request) -> Any:
    return read_json(await read_body(request))
