"""One loaded copy of a model: a Serve replica that loads once, batches, streams and describes itself."""

import asyncio
import copy
import logging
import resource
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import ray

from deployments.card import Description
from deployments.cluster.ray_private.replicas import ongoing_requests
from deployments.config.model_config import ModelConfig
from deployments.engines.device import give_back_memory, pick_device
from deployments.errors import InferenceError, Internal, InvalidInput, ModelNotReady, failures_with
from deployments.limits import Batching
from deployments.replica.batcher import Batcher
from deployments.replica.passthrough import Unbatched
from deployments.results import Answers
from deployments.schema import Schema, TextToken
from deployments.task import Module
from deployments.transport.connection import Listener

log = logging.getLogger(__name__)

FAILURES_TO_DOUBT = 3
# Of all streams together: a message takes time, here and in the Router, that a small model's tokens need.
MESSAGES_PER_S = 100
LONGEST_PAUSE_S = 0.2


class Replica:
    """Serves one model. Built by Ray Serve; called by Routers over channels.

    `config` is a `ModelConfig`'s content and `folder` where it lay: a replica can be placed on any node that
    sees the same files. `batching` holds its limits to start with: these may change.
    """

    def __init__(
        self, config: dict[str, Any], folder: str | None, batching: dict[str, Any] | None = None
    ) -> None:
        self.config = ModelConfig.model_validate(config)
        self.device = pick_device(self.config.engine.device)
        self.module = load(self.config, Path(folder) if folder else None, self.device)
        self.scheduler = schedule(self.module, Batching.model_validate(batching or {}))
        give_back_memory(self.device)  # the largest of the passes that were tried was larger than most
        self._streams = 0

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take new batching limits without loading again (Serve calls this when `user_config` changes)."""
        self.scheduler.limits = Batching.model_validate(user_config["batching"])

    async def record_replica_metadata(self) -> dict[str, Any]:
        """Where Routers reach this replica. Ray Serve asks once, and tells every handle."""
        self._listener = Listener(self, ongoing_requests())
        return await self._listener.open(ray.util.get_node_ip_address())

    async def wake(self) -> None:
        """Nothing: to be answered is enough, for it takes a replica. Called over a handle."""

    async def infer(self, inputs: list[Schema], params: Schema, sizes: list[int] | None = None) -> Answers:
        """One output, or one `InferenceError`, per input. `sizes`: how many inputs each request has."""
        self._check(*inputs)
        answers = await self.scheduler.submit(inputs, params, sizes)
        answers[:] = [_told(answer) if isinstance(answer, Exception) else answer for answer in answers]
        return answers

    async def stream(self, input: Schema, params: Schema) -> AsyncIterator[list[Any]]:
        """The chunks of one answer, those that are there together; the work stops when this is closed."""
        self._check(input)
        if self.module.stream is None:
            raise InferenceError(f"answers of task {self.module.task.name!r} do not stream")
        self._streams += 1
        try:
            async with aclosing(_bunches(self.module.stream(input, params), self._pause)) as bunches:
                async for bunch in bunches:
                    yield bunch
            self._count(None)
        except Exception as error:
            self._count(error)
            raise _told(error) from None
        finally:
            self._streams -= 1

    def _count(self, failure: Exception | None) -> None:
        """Streams pass the scheduler by, and the health check goes by what it has counted."""
        self.scheduler.failures = failures_with(failure, self.scheduler.failures)

    def _pause(self) -> float:
        return min(self._streams / MESSAGES_PER_S, LONGEST_PAUSE_S)

    async def tokenize(self, texts: list[str], special: bool = True) -> list[list[TextToken]]:
        """Each text's tokens, with the signs that the model puts around a text where `special` says so."""
        return await asyncio.to_thread(_tokens, self._tokenizer, texts, special)

    async def count_tokens(self, texts: list[str]) -> list[int]:
        """How many tokens each text has, with the signs that the model puts around it."""
        return await asyncio.to_thread(_counts, self._tokenizer, texts)

    async def decode(self, ids: list[list[int]], skip_special: bool = True) -> list[str]:
        """The text of each list of token ids. Raises `InvalidInput` where the model knows no such token."""
        return await asyncio.to_thread(_texts, self._tokenizer, ids, skip_special)

    async def counters(self) -> dict[str, int]:
        """Running totals of this replica's work, by the module's own names."""
        return self.module.counters()

    async def describe(self) -> Description:
        """What is loaded, where and with which limits."""
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
        """Raise when the model has failed again and again and fails on its own example too."""
        if self.scheduler.failures < FAILURES_TO_DOUBT:
            return
        example = self.module.task.input.model_validate(self.module.task.examples()[0])
        (result,) = await self.scheduler.submit([example], self.module.task.params())
        if isinstance(result, Exception):
            raise RuntimeError("the model fails on its own example") from result

    def _check(self, *inputs: Schema) -> None:
        """A replica of the version before may still answer when its model has become another task's."""
        if not all(isinstance(input, self.module.task.input) for input in inputs):
            raise ModelNotReady("the model is being replaced")

    @cached_property
    def _tokenizer(self) -> Any:
        """A copy: a tokenizer keeps what the last call said of truncation, and the module's is at work."""
        if self.module.tokenizer is None:
            raise InvalidInput(f"a model of {self.module.task.name} has no tokenizer")
        return copy.deepcopy(self.module.tokenizer)


def load(config: ModelConfig, folder: Path | None, device: str) -> Module:
    """Load the model onto this replica's device."""
    module = config.module()
    module.load(replace(config.checkpoint(folder), device=device))
    return module


def schedule(module: Module, limits: Batching) -> Batcher | Unbatched:
    """The module's scheduler, after one answer to the task's examples: the model is warm then.

    Raises what the module raises on them.
    """
    scheduler = (Unbatched if module.batches_itself() else Batcher)(module, limits)
    scheduler.tune([module.task.input.model_validate(example) for example in module.task.examples()])
    return scheduler


async def _bunches(
    chunks: AsyncGenerator[Any, None], pause: Callable[[], float]
) -> AsyncGenerator[list[Any], None]:
    """The first chunk at once, then after each `pause`, in seconds, all that have come; the end at once."""
    came: list[Any] = []
    news = asyncio.Event()

    async def pull() -> None:
        try:
            async for chunk in chunks:
                came.append(chunk)
                news.set()
        finally:
            await chunks.aclose()

    pulling = asyncio.get_running_loop().create_task(pull())
    pulling.add_done_callback(lambda _: news.set())
    try:
        while not pulling.done() or came:
            await news.wait()
            news.clear()
            if came:
                bunch = came[:]
                came.clear()
                yield bunch
            await asyncio.wait({pulling}, timeout=pause())
        await pulling
    finally:
        pulling.cancel()


def _tokens(tokenizer: Any, texts: list[str], special: bool) -> list[list[TextToken]]:
    told = tokenizer(
        texts,
        add_special_tokens=special,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )
    rows = zip(told["input_ids"], told["special_tokens_mask"], told["offset_mapping"], texts, strict=True)
    return [
        [
            TextToken(
                id=id,
                text=tokenizer.convert_ids_to_tokens(id) if sign else text[start:stop],
                special=bool(sign),
                start=None if sign else start,
                stop=None if sign else stop,
            )
            for id, sign, (start, stop) in zip(ids, signs, places, strict=True)
        ]
        for ids, signs, places, text in rows
    ]


def _counts(tokenizer: Any, texts: list[str]) -> list[int]:
    told = tokenizer(texts, verbose=False, return_attention_mask=False, return_token_type_ids=False)
    return [len(ids) for ids in told["input_ids"]]


def _texts(tokenizer: Any, ids: list[list[int]], skip_special: bool) -> list[str]:
    size = len(tokenizer)
    unknown = next((id for row in ids for id in row if not 0 <= id < size), None)
    if unknown is not None:
        raise InvalidInput(f"this model has no token {unknown}, only 0 to {size - 1}")
    return [tokenizer.decode(row, skip_special_tokens=skip_special) for row in ids]


def _told(error: Exception) -> InferenceError:
    if isinstance(error, InferenceError):
        return error
    log.error("the model failed on an input", exc_info=error)
    return Internal("the model failed on this input")
