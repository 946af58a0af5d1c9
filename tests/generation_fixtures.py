"""Helpers for tests of text generation: requests to a task module, and a recorder of its forward passes."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple

import torch

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.openvino.generation import PagedRunner
from deployments.engines.torch.generation import PaddedRunner
from deployments.engines.torch.unpadded_generation import UnpaddedRunner
from deployments.engines.unpadded_runner import BaseUnpaddedRunner
from deployments.generation.output import Generated, GeneratedChunk
from deployments.generation.scheduler import ContinuousBatching
from deployments.tasks.text_generation import TextGeneration, TextGenerationInput, TextGenerationParams
from tests.loaded_models import MODELS

PROMPTS = ["Once upon a time", "I", "The quick brown fox jumps over", "Hello! How", "My name is", "0"]

MIXED_PARAMS: list[dict[str, Any]] = [
    {"do_sample": False},
    {"temperature": 1.3, "seed": 1},
    {"temperature": 1.3, "seed": 2},
    {"top_k": 7, "top_p": 0.9, "seed": 3, "top_n_tokens": 3},
    {"do_sample": False, "repetition_penalty": 1.5, "top_n_tokens": 2},
    {"typical_p": 0.8, "frequency_penalty": 1.5, "presence_penalty": -0.5, "seed": 4},
]

RUNNERS = ("unpadded", "padded", "paged")


def without_eos(runner: str) -> TextGeneration:
    """Load a module for one test, whose outputs have no EOS token; `runner` is one of `RUNNERS`."""
    module = TextGeneration()
    engine_name = "openvino" if runner == "paged" else "torch"
    module.load(Checkpoint(str(MODELS / "text_generation"), engine=engine_name))
    module.generator.eos_token_ids.clear()
    engine: Any = module.generator.engine
    assert type(engine.runner) is (PagedRunner if runner == "paged" else UnpaddedRunner)
    if runner == "padded":
        module.generator.engine = ContinuousBatching(PaddedRunner(module.model, 0), engine.waiting)
    return module


class Pass(NamedTuple):
    """The number of sequences in a forward pass, how many of them were new, and the longest input."""

    sequences: int
    new: int
    columns: int


class PassRecorder:
    """Replaces a network's forward pass: records each pass, and can delay it, block it or make it fail.

    Each pass waits for `gate`. `fail` takes the token ids [sequences, columns], padded on the left.
    """

    def __init__(self, module: TextGeneration, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.passes: list[Pass] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fail: Callable[[torch.Tensor], Exception | None] = lambda ids: None
        runner = module.generator.engine.runner
        if isinstance(runner, BaseUnpaddedRunner):
            self.forward, runner._forward = runner._forward, self
        else:
            self.forward, module.model.forward = module.model.forward, self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if args:
            new_tokens, caches = args
            longest = max(map(len, new_tokens))
            ids = torch.tensor([[0] * (longest - len(tokens)) + tokens for tokens in new_tokens])
            new = sum(not cache.length for cache in caches)
        else:
            ids, cache = kwargs["input_ids"], kwargs.get("past_key_values")
            new = 0 if cache and cache.get_seq_length() else len(ids)
        self.passes.append(Pass(len(ids), new, ids.shape[1]))
        time.sleep(self.seconds)
        assert self.gate.wait(10)
        if error := self.fail(ids):
            raise error
        return self.forward(*args, **kwargs)


async def generate(module: TextGeneration, text: str, **params: Any) -> Generated:
    params = {"max_new_tokens": 12, "do_sample": False, "details": True} | params
    [output] = await module.run([TextGenerationInput(text=text)], TextGenerationParams(**params))
    return output


def stream(module: TextGeneration, text: str, **params: Any) -> Any:
    params = {"max_new_tokens": 40, "do_sample": False} | params
    return module.stream(TextGenerationInput(text=text), TextGenerationParams(**params))


async def start_stream(module: TextGeneration, text: str, **params: Any) -> tuple[Any, GeneratedChunk]:
    """Return a stream that has yielded its first chunk, and that chunk."""
    chunks = stream(module, text, **params)
    return chunks, await anext(chunks)


async def wait_for_counters(module: TextGeneration, **expected: int) -> dict[str, int]:
    """Wait until each counter is at least the expected number, or exactly 0; return all counters."""
    async with asyncio.timeout(5):
        while True:
            counters = module.counters()
            if all(
                counters[name] >= value and (value or not counters[name]) for name, value in expected.items()
            ):
                return counters
            await asyncio.sleep(0.001)


async def wait_until_idle(module: TextGeneration) -> dict[str, int]:
    return await wait_for_counters(module, running=0, waiting=0)


async def start_in_order(
    module: TextGeneration, recorder: PassRecorder, requests: Iterable[Coroutine[Any, Any, Any]]
) -> "list[asyncio.Task[Any]]":
    """Return tasks for requests that arrive in this order, before the prefill of the first one."""
    recorder.gate.clear()
    tasks = []
    for index, request in enumerate(requests):
        tasks.append(asyncio.create_task(request))
        await wait_for_counters(module, running=1, waiting=index)
    recorder.gate.set()
    return tasks


def generation_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "generate"}


def token_ids(output: Generated) -> list[int]:
    return [token.id for token in output.details.tokens]
