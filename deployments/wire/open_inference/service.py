"""What the Open Inference Protocol asks of the Router: the same over HTTP and gRPC."""

import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from deployments.card import Card
from deployments.errors import InferenceError, InvalidInput, ModelNotFound
from deployments.schema import Schema
from deployments.task import Task
from deployments.telemetry.request_stats import Totals
from deployments.wire.open_inference import tensor_inputs, tensor_outputs
from deployments.wire.open_inference.bodies import Inference
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
from deployments.wire.task_json import form

if TYPE_CHECKING:
    from deployments.routing.router import Router

NAME = "open_inference"
GENERATED = "generated_text"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "generate",
    "model_repository",
    "parameters",
    "statistics",
)


def find(router: "Router", model_id: str, wanted: str = "") -> Card:
    """The model's card. Raises `ModelNotFound`, also where another version than its one is `wanted`."""
    card = router.card(model_id)
    if wanted not in ("", VERSION):
        raise ModelNotFound(f"the model {model_id!r} has no version {wanted!r}, only {VERSION!r}")
    return card


def find_task(router: "Router", model_id: str, wanted: str = "") -> Task:
    """The task that a live model performs. Raises as `find` does, or `ModelNotReady`."""
    find(router, model_id, wanted)
    return router.task(model_id)


async def infer(router: "Router", model_id: str, wanted: str, asked: Inference) -> list[Tensor]:
    """The tensors that answer. Where one row fails, all do: the protocol has no errors for rows."""
    task = find_task(router, model_id, wanted)
    tensor_outputs.check_wanted(task.output, asked.wanted)
    items, given = tensor_inputs.read_items(task, asked.inputs, asked.parameters)
    inputs, params = await _read(router, task, items, given)
    answers = _whole(await router.infer(model_id, inputs, params))
    return tensor_outputs.tell(task.output, answers, asked.wanted)


async def stream(
    router: "Router", model_id: str, wanted: str, asked: Inference
) -> AsyncGenerator[tuple[str, bool], None]:
    """The pieces of a generated text, each with whether it is the last. Raises `InvalidInput` for rows."""
    task = find_task(router, model_id, wanted)
    if odd := [one.name for one in asked.wanted if one.name != GENERATED]:
        raise InvalidInput(f"what is streamed has the output {GENERATED!r} alone, not {odd[0]!r}")
    items, given = tensor_inputs.read_items(task, asked.inputs, asked.parameters)
    inputs, params = await _read(router, task, items, given)
    if len(inputs) != 1:
        raise InvalidInput(f"one row can be streamed, not {len(inputs)}; the parameter `stream` can be false")
    async with aclosing(pieces(router, model_id, inputs[0], params)) as told:
        async for piece in told:
            yield piece


async def pieces(
    router: "Router", model_id: str, input: Schema, params: Schema
) -> AsyncGenerator[tuple[str, bool], None]:
    """The pieces of a generated text, each with whether it is the last; together they are the answer."""
    before = _opening(input, params)
    async with aclosing(router.stream(model_id, input, params)) as chunks:
        async for chunk in chunks:
            text = "" if chunk.token.special else chunk.token.text
            yield before + text, chunk.generated_text is not None
            before = ""


def _opening(input: Schema, params: Schema) -> str:
    """The text that is gone on from, where the answer begins with it: no chunk's token has it."""
    whole = getattr(params, "return_full_text", False)
    return str(getattr(input, form(type(input)).lone or "")) if whole else ""


@cache
def server_metadata() -> ServerMetadata:
    try:
        installed = version("roster")
    except PackageNotFoundError:  # run from a checkout
        installed = ""
    return ServerMetadata(name="roster", version=installed, extensions=list(EXTENSIONS))


def model_metadata(router: "Router", model_id: str, wanted: str = "") -> ModelMetadata:
    """The model's tensors, read off its task. Raises as `find_task` does."""
    task = find_task(router, model_id, wanted)
    return ModelMetadata(
        name=model_id,
        inputs=_tensors(tensor_inputs.metadata(task.input)),
        outputs=_tensors(tensor_outputs.metadata(task.output)),
        parameters={name: field.description or "" for name, field in task.params.model_fields.items()},
    )


def index(router: "Router", only_ready: bool = False) -> list[IndexedModel]:
    """Every model, or those that answer."""
    return [
        IndexedModel(name=card.id, state=card.state.upper(), reason=card.reason)
        for card in router.cards.values()
        if card.state == "ready" or not only_ready
    ]


async def load(router: "Router", model_id: str, parameters: Mapping[str, Any]) -> None:
    """Load a model as its folder says. Raises `InvalidInput` for another config, or what the Router does."""
    if given := [name for name, value in parameters.items() if value is not None]:
        raise InvalidInput(f"a model loads as its folder says; {given[0]!r} cannot change it")
    await router.load(model_id)


async def unload(router: "Router", model_id: str, parameters: Mapping[str, Any]) -> None:
    """Unload a model; no other depends on it. Raises what the Router does."""
    if given := [name for name in parameters if name != "unload_dependents"]:
        raise InvalidInput(f"the parameter {given[0]!r} is not understood")
    await router.unload(model_id)


async def statistics(router: "Router", model_id: str = "", wanted: str = "") -> list[ModelStatistics]:
    """The statistics of a model, or of all.

    A request's time in the queue is that of the input that waited longest, its compute time that of every
    batch that held one of its inputs: one that requests shared counts for each of them. Executions are
    counted by the share of a batch. InferenceResults that stream are not counted.
    """
    cards = [find(router, model_id, wanted)] if model_id else list(router.cards.values())
    totals = {figures.id: figures.totals for figures in await router.stats()}
    return [_statistics(card.id, totals.get(card.id, Totals())) for card in cards]


async def _read(
    router: "Router", task: Task, items: list[dict[str, Any]], params: Mapping[str, Any]
) -> tuple[list[Schema], Schema]:
    """As `Router.read`; what is wrong with one of several rows is told with its number."""
    inputs, chosen = await router.validator.validate_each(task, NAME, items, params)
    return _whole(inputs), chosen


def _whole(rows: list[Any]) -> list[Any]:
    """The rows, if none of them has failed; else raises the first failure, with its number among several."""
    for row, error in enumerate(rows):
        if isinstance(error, InferenceError):
            raise error if len(rows) == 1 else error.restated(f"row {row}: {error}")
    return rows


def _tensors(told: list[tuple[str, str, list[int]]]) -> list[TensorMetadata]:
    return [TensorMetadata(name=name, datatype=datatype, shape=shape) for name, datatype, shape in told]


def _statistics(model_id: str, totals: Totals) -> ModelStatistics:
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
