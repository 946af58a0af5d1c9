"""The front door: finds the model and speaks to its replicas; Ray's errors are unwrapped here alone."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.card import Card
from deployments.catalog import Snapshot
from deployments.errors import (
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    Overloaded,
    TimedOut,
)
from deployments.fetch import Fetcher
from deployments.meter import Figures, Meter
from deployments.schema import Schema
from deployments.task import TASKS, Task

log = logging.getLogger("ray.serve")

TRIES = 3
START_S = 20.0
REPORT_S = 1.0
FAREWELL_S = 5.0  # what a call in flight is given when its model goes


class Router:
    """Answers every dialect, for every live model. Built by Ray Serve; any number of replicas.

    Knows the models from the Catalog's snapshots and goes on with the last one when the Catalog is away.
    """

    has_ui = False
    """Whether there are pages to send a browser to."""

    def __init__(self, catalog: DeploymentHandle, picture_hosts: list[str], timeout_s: float) -> None:
        self.snapshot = Snapshot()
        self._id = uuid.uuid4().hex
        self._meter = Meter()
        self._catalog = catalog
        self._fetcher = Fetcher(picture_hosts)
        self._timeout_s = timeout_s
        self._began = asyncio.Event()
        self._handles: dict[str, DeploymentHandle] = {}
        self._deadlines: dict[str, set[asyncio.Timeout]] = {}
        self._task = asyncio.get_running_loop().create_task(self._follow())
        self._reporting = asyncio.get_running_loop().create_task(self._report())

    @property
    def cards(self) -> Mapping[str, Card]:
        """Every model's card by its id, sorted."""
        return self.snapshot.cards

    @property
    def settled(self) -> bool:
        """True once every folder that was there at start has become ready or unavailable."""
        return self.snapshot.settled

    def card(self, model_id: str) -> Card:
        """The model's card, in any state. Raises `ModelNotFound`."""
        if not self._began.is_set():
            raise ModelNotReady("the gateway has just started")
        try:
            return self.snapshot.cards[model_id]
        except KeyError:
            raise ModelNotFound(f"no model is named {model_id!r}") from None

    def task(self, model_id: str) -> Task:
        """The task that a live model performs. Raises `ModelNotFound`, or `ModelNotReady` with the reason."""
        card = self.card(model_id)
        if card.state == "unavailable" or card.task is None:
            raise ModelNotReady(f"model {model_id!r} is unavailable: {card.reason}")
        return TASKS[card.task]

    async def read(
        self, task: Task, dialect: str, inputs: list[Any], params: Mapping[str, Any]
    ) -> tuple[list[Schema], Schema]:
        """Validate one request: JSON-like inputs and parameters become the task's own schemas.

        A parameter not given takes the dialect's default (`Task.dialect_params`), then the task's. URLs of
        pictures are fetched from the hosts that the operator allowed. Raises `InvalidInput` that names the
        field, `TooLarge`, `Forbidden`.
        """
        inputs = await self._fetcher.fill(task.input, inputs)
        defaults = task.dialect_params.get(dialect, {})
        return [_valid(task.input, input) for input in inputs], _valid(task.params, {**defaults, **params})

    async def figures(self) -> list[Figures]:
        """How each model does, as all Routers together see it. Raises `ModelNotReady` without the Catalog."""
        try:
            return list(await self._catalog.figures.remote())
        except Exception as error:
            raise ModelNotReady("the catalog is restarting") from error

    async def infer(self, model_id: str, inputs: list[Schema], params: Schema) -> list[Any]:
        """One output, or one `InferenceError`, per input. Raises an `InferenceError` when none was tried."""
        with self._meter.request(model_id):
            return await self._tried(model_id, inputs, params)

    async def _tried(self, model_id: str, inputs: list[Schema], params: Schema) -> list[Any]:
        async with self._deadline(model_id):
            for _ in range(TRIES - 1):
                # A replica that dies takes the call with it. Inference changes nothing: another one may try.
                with contextlib.suppress(ActorDiedError, ActorUnavailableError):
                    return await self._infer(model_id, inputs, params)
            return await self._infer(model_id, inputs, params)

    async def stream(self, model_id: str, input: Schema, params: Schema) -> AsyncIterator[Any]:
        """The chunks of one answer. Closing it stops the work. The deadline holds from chunk to chunk."""
        handle = (await self._handle(model_id)).options(stream=True)
        chunks = handle.stream.remote(input, params)
        started, tries = False, TRIES
        try:
            while True:
                # One deadline a chunk: chunks may be asked for from different asyncio tasks.
                async with self._deadline(model_id):
                    try:
                        chunk = await anext(chunks)
                    except StopAsyncIteration:
                        return
                    except (ActorDiedError, ActorUnavailableError):
                        tries -= 1
                        if started or not tries:
                            raise
                        chunks = handle.stream.remote(input, params)
                        continue
                started = True
                yield chunk
        finally:
            chunks.cancel()

    async def check_health(self) -> None:
        """Raise when the loop that follows the Catalog has ended.

        Waits for the first snapshot: Serve sends a Router nothing before it has been healthy once.
        """
        await asyncio.wait_for(self._began.wait(), START_S)
        if self._task.done():
            raise RuntimeError("the router no longer follows the catalog")

    async def _infer(self, model_id: str, inputs: list[Schema], params: Schema) -> list[Any]:
        response = (await self._handle(model_id)).infer.remote(inputs, params)
        try:
            return list(await response)
        except asyncio.CancelledError:
            # Of the caller, or of the deadline: what nobody waits for is not worked for.
            response.cancel()
            raise

    async def _handle(self, model_id: str) -> DeploymentHandle:
        if model_id not in self._handles:
            try:
                self._handles[model_id] = await asyncio.to_thread(serve.get_app_handle, model_id)
            except RayServeException:
                raise ModelNotReady(f"model {model_id!r} is loading") from None
        return self._handles[model_id]

    @asynccontextmanager
    async def _deadline(self, model_id: str) -> AsyncIterator[asyncio.Timeout]:
        """Bounds a call in time, ends it early when its model goes, and turns Ray's errors into ours."""
        deadlines = self._deadlines.setdefault(model_id, set())
        try:
            async with asyncio.timeout(self._timeout_s) as deadline:
                deadlines.add(deadline)
                yield deadline
        except TimeoutError:
            self.task(model_id)
            if self.card(model_id).state == "loading":
                raise ModelNotReady(f"model {model_id!r} is loading") from None
            raise TimedOut(f"no answer within {self._timeout_s:g} seconds") from None
        except Exception as error:
            raise self._ours(model_id, error) from error
        finally:
            deadlines.discard(deadline)

    def _ours(self, model_id: str, error: Exception) -> Exception:
        if isinstance(error, RayTaskError):
            error = error.cause
        if isinstance(error, BackPressureError):
            retry_after = error.retry_after_s
            return Overloaded(f"model {model_id!r} has all the requests it can hold", retry_after=retry_after)
        if isinstance(error, DeploymentUnavailableError):
            return ModelNotReady(f"model {model_id!r} has no replica that can start")
        if isinstance(error, (RayServeException, ActorDiedError, ActorUnavailableError)):
            return ModelNotReady(f"model {model_id!r} cannot be reached: its replicas are restarting")
        return error

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            with contextlib.suppress(
                Exception
            ):  # the Catalog may be away; it hears of us again when it is back
                await self._catalog.report.remote(self._id, self._meter.read())

    async def _follow(self) -> None:
        while True:
            try:
                snapshot: Snapshot = await self._catalog.watch.remote(self.snapshot.version)
                self._take(snapshot)
            except Exception as error:
                log.warning("the catalog is away (%s); going on with what it said last", type(error).__name__)
                await asyncio.sleep(0.5)

    def _take(self, snapshot: Snapshot) -> None:
        self.snapshot = replace(snapshot, settled=snapshot.settled or self.snapshot.settled)
        self._began.set()
        self._handles = {id: handle for id, handle in self._handles.items() if id in snapshot.cards}
        self._deadlines = {id: deadlines for id, deadlines in self._deadlines.items() if deadlines}
        for model_id, deadlines in self._deadlines.items():
            card = snapshot.cards.get(model_id)
            if card is None or card.state == "unavailable":
                _hurry(deadlines)


def _valid(schema: type[Schema], value: Any) -> Schema:
    try:
        return schema.model_validate(value)
    except ValidationError as invalid:
        raise InvalidInput("; ".join(map(_sentence, invalid.errors(include_url=False)))) from None


def _sentence(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"`{where}`: {error['msg']}" if where else str(error["msg"])


def _hurry(deadlines: set[asyncio.Timeout]) -> None:
    soon = asyncio.get_running_loop().time() + FAREWELL_S
    for deadline in deadlines:
        if not deadline.expired() and (deadline.when() or soon) > soon:
            deadline.reschedule(soon)
