"""Calls of a model that writes, and a look at what its network does meanwhile."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, NamedTuple

import pytest
import torch

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.openvino.generation import PagedRows
from deployments.engines.torch.generation import Joined
from deployments.engines.torch.unpadded_generation import Ragged
from deployments.engines.unpadded_rows import UnpaddedRows
from deployments.generation.output import Generated, GeneratedChunk
from deployments.generation.scheduler import ContinuousBatching
from deployments.tasks.text_generation import TextGeneration, TextGenerationInput, TextGenerationParams
from tests.loaded_models import MODELS

PROMPTS = ["Once upon a time", "I", "The quick brown fox jumps over", "Hello! How", "My name is", "0"]

MIXED: list[dict[str, Any]] = [
    {"do_sample": False},
    {"temperature": 1.3, "seed": 1},
    {"temperature": 1.3, "seed": 2},
    {"top_k": 7, "top_p": 0.9, "seed": 3, "top_n_tokens": 3},
    {"do_sample": False, "repetition_penalty": 1.5, "top_n_tokens": 2},
    {"typical_p": 0.8, "frequency_penalty": 1.5, "presence_penalty": -0.5, "seed": 4},
]

NETWORKS = ("ragged", "joined", "paged")


def endless(network: str) -> TextGeneration:
    """A model of a test's own, whose answers never end by themselves; `network` is one of `NETWORKS`."""
    fresh = TextGeneration()
    engine = "openvino" if network == "paged" else "torch"
    fresh.load(Checkpoint(str(MODELS / "text_generation"), engine=engine))
    fresh.generator.ends.clear()
    assert type(fresh.generator.engine.network) is (PagedRows if network == "paged" else Ragged)
    if network == "joined":
        fresh.generator.engine = ContinuousBatching(Joined(fresh.model, 0), fresh.generator.engine.waiting)
    return fresh


@pytest.fixture(params=NETWORKS)
def module(request: pytest.FixtureRequest) -> Iterator[TextGeneration]:
    fresh = endless(request.param)
    yield fresh
    fresh.generator.close()


class Pass(NamedTuple):
    """Of how many rows it read tokens, how many of those were new, and the most tokens of one."""

    rows: int
    new: int
    columns: int


class Passes:
    """Stands in a network's place: notes what each pass reads, and may be slow, wait or fail.

    Each waits for `gate`. `fail` gets the token ids of each row, padded on the left: [rows, columns].
    """

    def __init__(self, module: TextGeneration, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.made: list[Pass] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fail: Callable[[torch.Tensor], Exception | None] = lambda read: None
        network = module.generator.engine.network
        if isinstance(network, UnpaddedRows):
            self.forward, network._forward = network._forward, self
        else:
            self.forward, module.model.forward = module.model.forward, self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if args:
            rows, kept = args
            longest = max(map(len, rows))
            ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
            new = sum(not one.length for one in kept)
        else:
            ids, cache = kwargs["input_ids"], kwargs.get("past_key_values")
            new = 0 if cache and cache.get_seq_length() else len(ids)
        self.made.append(Pass(len(ids), new, ids.shape[1]))
        time.sleep(self.seconds)
        assert self.gate.wait(10)
        if error := self.fail(ids):
            raise error
        return self.forward(*args, **kwargs)


async def write(module: TextGeneration, text: str, **params: Any) -> Generated:
    params = {"max_new_tokens": 12, "do_sample": False, "details": True} | params
    [answer] = await module.run([TextGenerationInput(text=text)], TextGenerationParams(**params))
    return answer


def stream(module: TextGeneration, text: str, **params: Any) -> Any:
    params = {"max_new_tokens": 40, "do_sample": False} | params
    return module.stream(TextGenerationInput(text=text), TextGenerationParams(**params))


async def until(module: TextGeneration, **wanted: int) -> dict[str, int]:
    """Wait until the counters are these, or more where that is more than none; all of them then."""
    async with asyncio.timeout(5):
        while True:
            counters = module.counters()
            if all(
                counters[name] >= value and (value or not counters[name]) for name, value in wanted.items()
            ):
                return counters
            await asyncio.sleep(0.001)


async def in_turn(
    module: TextGeneration, passes: Passes, calls: Iterable[Coroutine[Any, Any, Any]]
) -> "list[asyncio.Task[Any]]":
    """Tasks for calls that have come one after the other, before the first of them was read."""
    passes.gate.clear()
    tasks = []
    for place, call in enumerate(calls):
        tasks.append(asyncio.create_task(call))
        await until(module, running=1, waiting=place)
    passes.gate.set()
    return tasks


async def idle(module: TextGeneration) -> dict[str, int]:
    return await until(module, running=0, waiting=0)


def generating() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "generate"}


def ids(answer: Generated) -> list[int]:
    return [token.id for token in answer.details.tokens]


async def begun(module: TextGeneration, text: str, **params: Any) -> tuple[Any, GeneratedChunk]:
    """A stream that has given its first chunk, and that chunk."""
    chunks = stream(module, text, **params)
    return chunks, await anext(chunks)
