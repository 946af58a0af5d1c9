"""One loaded copy of a model: a Serve replica that loads once, batches, streams and describes itself."""

import asyncio
import logging
import resource
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from deployments.batching import Batcher
from deployments.card import Description
from deployments.config import Batching, ModelConfig
from deployments.errors import InferenceError, Internal, ModelNotReady
from deployments.schema import Schema
from deployments.task import Module

log = logging.getLogger(__name__)

MAX_STREAMS = 16
FAILURES_TO_DOUBT = 3
END = object()


class Replica:
    """Serves one model. Built by Ray Serve; called by Routers over a handle.

    `config` is a `ModelConfig`'s content and `folder` where it lay: a replica can be placed on any node that
    sees the same files.
    """

    def __init__(self, config: dict[str, Any], folder: str | None) -> None:
        self.config = ModelConfig.model_validate(config)
        self.module = load(self.config, Path(folder) if folder else None)
        self.batcher = Batcher(self.module.run, self.config.batching)
        self._streams = asyncio.Semaphore(MAX_STREAMS)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take new batching limits without loading again (Serve calls this when `user_config` changes)."""
        self.batcher.limits = Batching.model_validate(user_config["batching"])

    async def infer(self, inputs: list[Schema], params: Schema) -> list[Any]:
        """One output, or one `InferenceError`, per input."""
        self._check(*inputs)
        results = await self.batcher.submit(inputs, params)
        return [_told(result) if isinstance(result, Exception) else result for result in results]

    async def stream(self, input: Schema, params: Schema) -> AsyncIterator[Any]:
        """The chunks of one answer, each as soon as it is made; the work stops when this is closed."""
        self._check(input)
        if self.module.stream is None:
            raise InferenceError(f"answers of task {self.module.task.name!r} do not stream")
        async with self._streams, aclosing(_in_thread(self.module.stream(input, params))) as chunks:
            try:
                async for chunk in chunks:
                    yield chunk
            except Exception as error:
                raise _told(error) from None

    def _check(self, *inputs: Schema) -> None:
        """A replica of the version before may still answer when its model has become another task's."""
        if not all(isinstance(input, self.module.task.input) for input in inputs):
            raise ModelNotReady("the model is being replaced")

    async def describe(self) -> Description:
        """What is loaded, where and with which limits."""
        weights = list(self.module.model.parameters())
        return Description(
            device=str(weights[0].device),
            gpu_ids=[str(id) for id in ray.get_gpu_ids()],
            dtype=str(weights[0].dtype).removeprefix("torch."),
            parameters=sum(weight.numel() for weight in weights),
            bytes=sum(weight.numel() * weight.element_size() for weight in weights),
            memory_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            max_length=self.module.max_length,
            **self.batcher.limits.model_dump(),
        )

    async def check_health(self) -> None:
        """Raise when the model has failed again and again and fails on its own example too."""
        if self.batcher.failures < FAILURES_TO_DOUBT:
            return
        example = self.module.task.input.model_validate(self.module.task.examples()[0])
        (result,) = await self.batcher.submit([example], self.module.task.params())
        if isinstance(result, Exception):
            raise RuntimeError("the model fails on its own example") from result


def load(config: ModelConfig, folder: Path | None) -> Module:
    """Load the model onto this replica's device and answer the task's example once, so that it is warm."""
    module = config.module()
    module.load(replace(config.checkpoint(folder), device=pick_device(config.engine.device)))
    examples = [module.task.input.model_validate(example) for example in module.task.examples()]
    module.run(examples, module.task.params())
    return module


def pick_device(wanted: str) -> str:
    """The device to load onto: "cuda" where Serve gave this replica a GPU that torch sees, else "cpu".

    `wanted` wins when it is not "auto".

    A replica without `num_gpus` sees every card of its node, so torch alone cannot tell what is ours.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelNotReady("`engine.device` is cuda, and torch sees no GPU here")
    if wanted != "auto":
        return wanted
    return "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"


async def _in_thread(chunks: Generator[Any]) -> AsyncGenerator[Any]:
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, thread_name_prefix="stream")
    try:
        while (chunk := await loop.run_in_executor(thread, next, chunks, END)) is not END:
            yield chunk
    finally:
        # Closed in its own thread, after the step that may still run there; the loop does not wait for it.
        thread.submit(chunks.close)
        thread.shutdown(wait=False)


def _told(error: Exception) -> InferenceError:
    if isinstance(error, InferenceError):
        return error
    log.error("the model failed on an input", exc_info=error)
    return Internal("the model failed on this input")
