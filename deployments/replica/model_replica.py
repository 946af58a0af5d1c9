"""One loaded model in a Serve replica: it loads once, batches, streams and describes itself."""

import asyncio
import copy
import logging
import resource
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import ray

from deployments.card import Description
from deployments.cluster.ray_private.replicas import ongoing_requests
from deployments.cluster.ray_private.startup_phase import publish_phase
from deployments.config.model_config import ModelConfig
from deployments.engines.architectures import check_architecture
from deployments.engines.device import pick_device, release_cached_memory
from deployments.engines.hub import hub_or_cache
from deployments.errors import InferenceError, Internal, InvalidInput, ModelNotReady, count_failures
from deployments.limits import Batching
from deployments.replica import tokenizer_calls
from deployments.replica.batcher import Batcher
from deployments.replica.passthrough import PassthroughScheduler
from deployments.replica.stream_chunks import chunk_lists
from deployments.results import InferenceResults
from deployments.schema import Schema, TextToken
from deployments.task import MODULES, Module
from deployments.transport.server import ReplicaServer

log = logging.getLogger(__name__)

FAILURES_BEFORE_PROBE = 3
# Of all streams together: a message costs processor time, here and in the Router, that a small model needs.
MESSAGES_PER_S = 100
LONGEST_PAUSE_S = 0.2


class Replica:
    """Serves one model. Ray Serve builds it; Routers call its methods.

    `config` is the content of a `ModelConfig` and `folder` its folder: a replica can be placed on any node
    that sees the same files. `batching` holds the limits to start with: these may change.
    """

    def __init__(
        self, config: dict[str, Any], folder: str | None, batching: dict[str, Any] | None = None
    ) -> None:
        self.config = ModelConfig.model_validate(config)
        self.device = pick_device(self.config.engine.device)
        self.module = load(self.config, Path(folder) if folder else None, self.device)
        publish_phase("warming up")
        self.scheduler = schedule(self.module, Batching.model_validate(batching or {}))
        release_cached_memory(self.device)  # the largest pass that tuning tried is larger than most
        self._streams = 0

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take new batching limits without loading again (Serve calls this when `user_config` changes)."""
        self.scheduler.limits = Batching.model_validate(user_config["batching"])

    async def record_replica_metadata(self) -> dict[str, Any]:
        """Return the address and the module of this replica: Ray Serve passes them to every handle.

        Without an address, Routers call the replica through Serve's handle.
        """
        try:
            ongoing = ongoing_requests()
        except Exception:
            log.warning("this Ray has other private parts: calls go through Serve's handle", exc_info=True)
            return {}
        self._server = ReplicaServer(self, ongoing)
        address = await self._server.open(ray.util.get_node_ip_address())
        return {**address, "module_id": self.config.module_id}

    async def ping(self) -> None:
        """Answer. A Router calls this through Serve's handle, which makes Serve start a replica."""

    async def infer(
        self, inputs: list[Schema], params: Schema, sizes: list[int] | None = None
    ) -> InferenceResults:
        """Return one output, or one `InferenceError`, per input. `sizes`: inputs per request."""
        self._check(*inputs)
        results = await self.scheduler.submit(inputs, params, sizes)
        results[:] = [_public(result) if isinstance(result, Exception) else result for result in results]
        return results

    async def stream(self, input: Schema, params: Schema) -> AsyncIterator[list[Any]]:
        """Yield the chunks of one answer, in lists of those that are there; closing stops the work."""
        self._check(input)
        if self.module.stream is None:
            raise InferenceError(f"answers of task {self.module.task.name!r} do not stream")
        self._streams += 1
        try:
            async with aclosing(chunk_lists(self.module.stream(input, params), self._pause_s)) as lists:
                async for chunks in lists:
                    yield chunks
            self._count(None)
        except Exception as error:
            self._count(error)
            raise _public(error) from None
        finally:
            self._streams -= 1

    def _count(self, failure: Exception | None) -> None:
        """Count a stream for the health check: streams do not go through the scheduler."""
        self.scheduler.failures = count_failures(failure, self.scheduler.failures)

    def _pause_s(self) -> float:
        return min(self._streams / MESSAGES_PER_S, LONGEST_PAUSE_S)

    async def tokenize(self, texts: list[str], special: bool = True) -> list[list[TextToken]]:
        """Return each text's tokens, with the model's special tokens around a text if `special`."""
        return await asyncio.to_thread(tokenizer_calls.tokenize, self._tokenizer, texts, special)

    async def count_tokens(self, texts: list[str]) -> list[int]:
        """Return how many tokens each text has, with the model's special tokens."""
        return await asyncio.to_thread(tokenizer_calls.count_tokens, self._tokenizer, texts)

    async def decode(self, ids: list[list[int]], skip_special: bool = True) -> list[str]:
        """Return the text of each list of token ids. Raises `InvalidInput` for an id that is no token."""
        return await asyncio.to_thread(tokenizer_calls.decode, self._tokenizer, ids, skip_special)

    async def counters(self) -> dict[str, int]:
        """Return running totals of this replica's work, by the module's own names."""
        return self.module.counters()

    async def describe(self) -> Description:
        """Return what is loaded, where and with which limits."""
        weights = list(self.module.model.parameters())
        return Description(
            device=self.device,
            gpu_ids=[str(id) for id in ray.get_gpu_ids()],
            dtype=str(weights[0].dtype).removeprefix("torch."),
            parameters=sum(weight.numel() for weight in weights),
            bytes=sum(weight.numel() * weight.element_size() for weight in weights),
            memory_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            max_length=self.module.max_length,
            **self.scheduler.limits.model_dump(),
        )

    async def check_health(self) -> None:
        """Raise when the model has failed several times in a row and fails on its own example too."""
        if self.scheduler.failures < FAILURES_BEFORE_PROBE:
            return
        example = self.module.task.input.model_validate(self.module.task.examples()[0])
        (result,) = await self.scheduler.submit([example], self.module.task.params())
        if isinstance(result, Exception):
            raise RuntimeError("the model fails on its own example") from result

    def _check(self, *inputs: Schema) -> None:
        """Refuse inputs of another task: a replica of the version before may still get requests."""
        if not all(isinstance(input, self.module.task.input) for input in inputs):
            raise ModelNotReady("the model is being replaced")

    @cached_property
    def _tokenizer(self) -> Any:
        """A copy: a tokenizer keeps the truncation of its last call, and the module is using its own."""
        if self.module.tokenizer is None:
            raise InvalidInput(f"a model of {self.module.task.name} has no tokenizer")
        return copy.deepcopy(self.module.tokenizer)


def load(config: ModelConfig, folder: Path | None, device: str) -> Module:
    """Load the model onto this replica's device. Raises `ModelNotReady` if it cannot, or does not fit."""
    module, checkpoint = config.module(), replace(config.checkpoint(folder), device=device)
    with hub_or_cache(checkpoint.name, checkpoint.revision):
        if module.network_kinds:  # before a download of many gigabytes
            fitting = {f"`{other.task.name}`": other.network_kinds for other in MODULES.values()}
            check_architecture(checkpoint.json("config.json"), module.network_kinds, fitting)
        checkpoint.download(publish_phase)
        publish_phase("reading the weights")
        module.load(checkpoint)
    return module


def schedule(module: Module, limits: Batching) -> Batcher | PassthroughScheduler:
    """Return the module's scheduler, once it has answered the task's examples: the model is warm then.

    Raises what the module raises on them.
    """
    scheduler = (PassthroughScheduler if module.batches_itself() else Batcher)(module, limits)
    scheduler.tune([module.task.input.model_validate(example) for example in module.task.examples()])
    return scheduler


def _public(error: Exception) -> InferenceError:
    if isinstance(error, InferenceError):
        return error
    log.error("the model failed on an input", exc_info=error)
    return Internal("the model failed on this input")
