"""The Router: it knows the models, validates requests and sends them to the models' replicas."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence, Sized
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from ray.exceptions import RayTaskError
from ray.serve.handle import DeploymentHandle

from deployments.card import NOT_LOOKED_YET, Card, Snapshot
from deployments.errors import InferenceError, ModelNotFound, ModelNotReady, TooLarge
from deployments.results import InferenceResults
from deployments.routing.image_fetcher import ImageFetcher
from deployments.routing.model_client import ModelClient, unavailable
from deployments.routing.replica_set import ReplicaSet
from deployments.routing.replica_transport import ReplicaTransport
from deployments.routing.serve_handle import ServeHandle
from deployments.routing.validation import RequestValidator
from deployments.schema import MAX_TEXT, Schema, TextToken
from deployments.task import TASKS, Task
from deployments.telemetry.request_stats import ModelStats, RequestStats
from deployments.telemetry.truncation import record_truncation

log = logging.getLogger("ray.serve")

START_S = 20.0
REPORT_S = 1.0
TRANSPORTS: dict[str, Callable[[str], ReplicaTransport]] = {"channel": ReplicaSet, "handle": ServeHandle}
"""How calls reach a model's replicas, by the gateway's argument `transport`."""


class Router:
    """Serves every live model to every dialect. Ray Serve runs any number of replicas of it.

    Knows the models from the Catalog's snapshots, and keeps the last one while the Catalog is away.
    """

    has_ui = False
    """Whether there are pages to redirect a browser to."""

    def __init__(
        self,
        catalog: DeploymentHandle,
        allowed_image_hosts: list[str],
        timeout_s: float,
        default_model: str | None = None,
        connect: Callable[[str], ReplicaTransport] = ReplicaSet,
    ) -> None:
        self.snapshot = Snapshot()
        self._default_model = default_model
        self._id = uuid.uuid4().hex
        self._stats = RequestStats()
        self._catalog = catalog
        self.validator = RequestValidator(ImageFetcher(allowed_image_hosts))
        self._timeout_s = timeout_s
        self._connect = connect
        self._started = asyncio.Event()
        self._snapshot_changed = asyncio.Event()
        self._clients: dict[str, ModelClient] = {}
        self._task = asyncio.get_running_loop().create_task(self._follow())
        self._reporting = asyncio.get_running_loop().create_task(self._report())

    @property
    def cards(self) -> Mapping[str, Card]:
        """Every model's card by its id, sorted."""
        return self.snapshot.cards

    @property
    def startup_complete(self) -> bool:
        """True once each folder that was there at start is ready, unavailable, or waits for a node."""
        return self.snapshot.startup_complete

    def card(self, model_id: str) -> Card:
        """Return the model's card, in any state. Raises `ModelNotFound`."""
        if not self._started.is_set():
            raise ModelNotReady("the gateway has just started")
        try:
            card = self.snapshot.cards[model_id]
        except KeyError:
            raise ModelNotFound(f"no model is named {model_id!r}") from None
        # Serve's list of replicas arrives before the Catalog's next snapshot, and the old replicas stop then.
        successor, client = self.snapshot.successors.get(model_id), self._clients.get(model_id)
        return successor if successor and client and client.serves(successor.module_id) else card

    @property
    def default_model(self) -> str:
        """The model of requests that name none. Raises `ModelNotFound` if none is configured."""
        if self._default_model is None:
            raise ModelNotFound("no model is named, and this cluster has no `default_model`")
        return self._default_model

    def task(self, model_id: str) -> Task:
        """Return the task of a live model. Raises `ModelNotFound`, or `ModelNotReady` with the reason."""
        card = self.card(model_id)
        if card.state == "unavailable" or card.task is None:
            raise unavailable(card)
        return TASKS[card.task]

    async def stats(self) -> list[ModelStats]:
        """Return each model's statistics from all Routers. Raises `ModelNotReady` without the Catalog."""
        try:
            return list(await self._catalog.stats.remote())
        except Exception as error:
            raise ModelNotReady("the catalog is restarting") from error

    async def load(self, model_id: str) -> None:
        """Serve an unloaded model again, and wait until it is ready.

        Raises `Forbidden` unless the operator allows it, `ModelNotReady` if it fails.
        """
        await self._command("load", model_id, lambda card: card.state == "ready")

    async def unload(self, model_id: str) -> None:
        """Stop serving a model until it is loaded again; its folder stays. Raises `Forbidden`."""
        await self._command("unload", model_id, lambda card: card.state == "unavailable")

    async def infer(self, model_id: str, inputs: list[Schema], params: Schema) -> InferenceResults:
        """Return one output, or one `InferenceError`, per input. Raises one if no input was run."""
        with self._stats.request(model_id) as reading:
            client = self._client(model_id)
            # Long answers are batched token by token: sharing a call gains nothing.
            alone = self.task(model_id).chunk is not None
            answers = await (client.call("infer", inputs, params) if alone else client.infer(inputs, params))
            reading.add(answers)
            record_truncation(answers.usage)
            return answers

    async def stream(self, model_id: str, input: Schema, params: Schema) -> AsyncGenerator[Any, None]:
        """Yield the chunks of one answer. Closing stops the work. The deadline holds from chunk to chunk."""
        with self._stats.request(model_id) as reading:
            async with aclosing(self._client(model_id).stream(input, params)) as chunks:
                async for chunk in chunks:
                    yield chunk
            reading.add_stream()

    async def tokenize(self, model_id: str, texts: list[str], special: bool = True) -> list[list[TextToken]]:
        """Return each text's tokens. Raises `InvalidInput` if the model has no tokenizer, `TooLarge`."""
        _check_total("characters", texts)
        return list(await self._client(model_id).call("tokenize", texts, special))

    async def count_tokens(self, model_id: str, texts: list[str]) -> list[int]:
        """Return how many tokens each text has. Raises `InvalidInput` if the model has no tokenizer."""
        return list(await self._client(model_id).call("count_tokens", texts))

    async def decode(self, model_id: str, ids: list[list[int]], skip_special: bool = True) -> list[str]:
        """Return the text of each list of token ids. Raises `InvalidInput` for an unknown id, `TooLarge`."""
        _check_total("token ids", ids)
        return list(await self._client(model_id).call("decode", ids, skip_special))

    async def counters(self, model_id: str) -> dict[str, int]:
        """Return running totals of the work of one of the model's replicas."""
        return dict(await self._client(model_id).call("counters"))

    def _client(self, model_id: str) -> ModelClient:
        self.task(model_id)
        if model_id not in self._clients:
            card, replicas = partial(self.card, model_id), self._connect(model_id)
            self._clients[model_id] = ModelClient(model_id, card, self._timeout_s, replicas)
        return self._clients[model_id]

    async def _command(self, command: str, model_id: str, done: Callable[[Card], bool]) -> None:
        self.card(model_id)
        try:
            await getattr(self._catalog, command).remote(model_id)
        except RayTaskError as error:
            raise error.cause from error
        except InferenceError:
            raise
        except Exception as error:
            raise ModelNotReady("the catalog is restarting") from error
        try:
            async with asyncio.timeout(self._timeout_s):
                while not done(self.card(model_id)):
                    await self._snapshot_changed.wait()
        except TimeoutError:
            reason = self.card(model_id).reason
            raise ModelNotReady(f"{command} of model {model_id!r} has not ended yet: {reason}") from None

    async def check_health(self) -> None:
        """Raise when the loop that follows the Catalog has ended.

        Waits for the first snapshot: Serve sends no requests to a Router before it has been healthy once.
        """
        await asyncio.wait_for(self._started.wait(), START_S)
        if self._task.done():
            raise RuntimeError("the router no longer follows the catalog")

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            with contextlib.suppress(Exception):  # the Catalog gets the next report when it is back
                await self._catalog.report.remote(self._id, self._stats.report())

    async def _follow(self) -> None:
        while True:
            try:
                snapshot: Snapshot = await self._catalog.watch.remote(self.snapshot.version)
                if snapshot.version != NOT_LOOKED_YET:  # the Catalog may have just started
                    self._apply_snapshot(snapshot)
            except Exception as error:
                log.warning(
                    "the catalog is away (%s); the router keeps its last snapshot", type(error).__name__
                )
                await asyncio.sleep(0.5)

    def _apply_snapshot(self, snapshot: Snapshot) -> None:
        self.snapshot = replace(
            snapshot, startup_complete=snapshot.startup_complete or self.snapshot.startup_complete
        )
        self._started.set()
        for model_id, client in self._clients.items():
            card = snapshot.cards.get(model_id)
            if card is None or card.state == "unavailable":
                client.shorten_deadlines()
            if card is None:
                client.close()
        self._stats.retain(snapshot.cards)
        self._clients = {id: client for id, client in self._clients.items() if id in snapshot.cards}
        changed, self._snapshot_changed = self._snapshot_changed, asyncio.Event()
        changed.set()


def _check_total(unit: str, rows: Sequence[Sized]) -> None:
    """Raise `TooLarge` if the rows have over a million together."""
    if (total := sum(map(len, rows))) > MAX_TEXT:
        raise TooLarge(f"there are {total:,} {unit} together; at most {MAX_TEXT:,} are accepted")
