"""The calls of the Open Inference Protocol to the Router, shared by HTTP and gRPC."""

import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any

from deployments.card import Card
from deployments.errors import InferenceError, InvalidInput, ModelNotFound
from deployments.schema import Schema
from deployments.task import Task
from deployments.telemetry.request_stats import Totals
from deployments.wire.open_inference import tensor_inputs, tensor_outputs
from deployments.wire.open_inference.bodies import InferenceRequest
from deployments.wire.open_inference.tensors import Tensor
from deployments.wire.open_inference.types import (
    VERSION,
    Duration,
    IndexedModel,
    InferStatistics,
    ModelMetadata,
    ModelStatistics,
    ServerMetadata,
    TensorMetadata,
)
from deployments.wire.task_json import input_layout

if TYPE_CHECKING:
    from deployments.routing.router import Router

DIALECT = "open_inference"
GENERATED_TEXT = "generated_text"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "generate",
    "model_repository",
    "parameters",
    "statistics",
)


def find_card(router: "Router", model_id: str, version: str = "") -> Card:
    """Return the model's card. Raises `ModelNotFound`, also for an unknown version."""
    card = router.card(model_id)
    if version not in ("", VERSION):
        raise ModelNotFound(f"the model {model_id!r} has no version {version!r}, only {VERSION!r}")
    return card


def find_task(router: "Router", model_id: str, version: str = "") -> Task:
    """Return the task of a ready model. Raises `ModelNotFound` or `ModelNotReady`."""
    find_card(router, model_id, version)
    return router.task(model_id)


async def infer(router: "Router", model_id: str, version: str, request: InferenceRequest) -> list[Tensor]:
    """Return the requested output tensors. If one row fails, all fail: the protocol has no errors of rows."""
    task = find_task(router, model_id, version)
    tensor_outputs.check_requested(task.output, request.requested)
    inputs, params = await _parse_and_validate(router, task, request)
    outputs = _raise_first_error(await router.infer(model_id, inputs, params))
    return tensor_outputs.to_tensors(task.output, outputs, request.requested)


async def stream_infer(
    router: "Router", model_id: str, version: str, request: InferenceRequest
) -> AsyncGenerator[tuple[str, bool], None]:
    """Yield the parts of a generated text, each with whether it is the last.

    Raises `InvalidInput` for several rows, or for outputs other than the text.
    """
    task = find_task(router, model_id, version)
    if others := [output.name for output in request.requested if output.name != GENERATED_TEXT]:
        raise InvalidInput(f"a stream has the output {GENERATED_TEXT!r} only, not {others[0]!r}")
    inputs, params = await _parse_and_validate(router, task, request)
    if len(inputs) != 1:
        raise InvalidInput(
            f"a stream takes one row, not {len(inputs)}; set the parameter `stream` to false for several"
        )
    async with aclosing(stream_text(router, model_id, inputs[0], params)) as parts:
        async for part in parts:
            yield part


async def stream_text(
    router: "Router", model_id: str, input: Schema, params: Schema
) -> AsyncGenerator[tuple[str, bool], None]:
    """Yield the parts of a generated text, each with whether it is the last."""
    prompt = _prompt_to_return(input, params)
    async with aclosing(router.stream(model_id, input, params)) as chunks:
        async for chunk in chunks:
            text = "" if chunk.token.special else chunk.token.text
            yield prompt + text, chunk.generated_text is not None
            prompt = ""


def _prompt_to_return(input: Schema, params: Schema) -> str:
    """Return the prompt if `return_full_text` is set: the chunks' tokens do not include it."""
    full_text = getattr(params, "return_full_text", False)
    return str(getattr(input, input_layout(type(input)).single_field or "")) if full_text else ""


@cache
def server_metadata() -> ServerMetadata:
    """Return the server's name, version and protocol extensions."""
    try:
        version = installed_version("roster")
    except PackageNotFoundError:  # runs from a checkout that is not installed
        version = ""
    return ServerMetadata(name="roster", version=version, extensions=list(EXTENSIONS))


def model_metadata(router: "Router", model_id: str, version: str = "") -> ModelMetadata:
    """Return the names, datatypes and shapes of a model's tensors. Raises as `find_task` does."""
    task = find_task(router, model_id, version)
    return ModelMetadata(
        name=model_id,
        inputs=_tensor_metadata(tensor_inputs.metadata(task.input)),
        outputs=_tensor_metadata(tensor_outputs.metadata(task.output)),
        parameters={name: field.description or "" for name, field in task.params.model_fields.items()},
    )


def repository_index(router: "Router", only_ready: bool = False) -> list[IndexedModel]:
    """Return all models and their states, or only the ready ones."""
    return [
        IndexedModel(name=card.id, state=card.state.upper(), reason=card.reason)
        for card in router.cards.values()
        if card.state == "ready" or not only_ready
    ]


async def load(router: "Router", model_id: str, parameters: Mapping[str, Any]) -> None:
    """Load a model from its folder. Raises `InvalidInput` for any parameter, or as `Router.load` does."""
    if names := [name for name, value in parameters.items() if value is not None]:
        raise InvalidInput(f"a model's folder sets its configuration; {names[0]!r} cannot change it")
    await router.load(model_id)


async def unload(router: "Router", model_id: str, parameters: Mapping[str, Any]) -> None:
    """Unload a model. Raises `InvalidInput` for an unknown parameter, or as `Router.unload` does."""
    if unknown := [name for name in parameters if name != "unload_dependents"]:
        raise InvalidInput(f"unknown parameter {unknown[0]!r}; `unload_dependents` is the only one")
    await router.unload(model_id)


async def model_statistics(router: "Router", model_id: str = "", version: str = "") -> list[ModelStatistics]:
    """Return the statistics of a model, or of all models.

    A request's queue time is the longest queue time of its inputs. Its compute time is the time of the
    batches that hold its inputs: a shared batch counts in full for each request. The execution count adds up
    each request's share of a batch. Streamed requests do not count.
    """
    cards = [find_card(router, model_id, version)] if model_id else list(router.cards.values())
    totals = {stats.id: stats.totals for stats in await router.stats()}
    return [_to_statistics(card.id, totals.get(card.id, Totals())) for card in cards]


async def _parse_and_validate(
    router: "Router", task: Task, request: InferenceRequest
) -> tuple[list[Schema], Schema]:
    """Return the request's inputs and parameters; the error of one of several rows has the row's index."""
    items, params = tensor_inputs.parse_items(task, request.inputs, request.parameters)
    inputs, validated = await router.validator.validate_each(task, DIALECT, items, params)
    return _raise_first_error(inputs), validated


def _raise_first_error(rows: list[Any]) -> list[Any]:
    """Return the rows, or raise the first error among them, with its row's index if there are several."""
    for row, error in enumerate(rows):
        if isinstance(error, InferenceError):
            raise error if len(rows) == 1 else error.restated(f"row {row}: {error}")
    return rows


def _tensor_metadata(tensors: list[tuple[str, str, list[int]]]) -> list[TensorMetadata]:
    return [TensorMetadata(name=name, datatype=datatype, shape=shape) for name, datatype, shape in tensors]


def _to_statistics(model_id: str, totals: Totals) -> ModelStatistics:
    return ModelStatistics(
        name=model_id,
        last_inference=int(1000 * (totals.last or 0)),
        inference_count=totals.inputs,
        execution_count=math.ceil(totals.batches),
        inference_stats=InferStatistics(
            success=_duration(totals.succeeded, totals.succeeded_s),
            fail=_duration(totals.failed, totals.failed_s),
            queue=_duration(totals.succeeded, totals.queued_s),
            compute_infer=_duration(totals.succeeded, totals.inference_s),
        ),
    )


def _duration(count: int, seconds: float) -> Duration:
    return Duration(count=count, ns=round(seconds * 1e9))
