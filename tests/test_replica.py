"""A replica without Ray: it loads once, batches, streams, stops, describes itself, knows when it is ill."""

import asyncio
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import torch
from pydantic import Field

from deployments.checkpoint import Checkpoint
from deployments.config import MODULES
from deployments.errors import InvalidInput
from deployments.replica import Replica
from deployments.schema import Schema, Text
from deployments.task import TASKS, Module, task

MODULE_ID = "00000000-0000-0000-0000-000000000000"


class EchoInput(Schema):
    text: Text = Field(examples=["warm"])


class EchoParams(Schema):
    pass


class EchoOutput(Schema):
    text: str


class EchoChunk(Schema):
    number: int


@pytest.fixture
def echo() -> Iterator[type[Module]]:
    @task("echo")
    class Echo(Module):
        """Say it again."""

        module_id = MODULE_ID
        default_model = "none"
        loads = 0
        seen: list[str] = []
        broken = False
        closed = False

        def load(self, checkpoint: Checkpoint) -> None:
            type(self).loads += 1
            self.model = torch.nn.Linear(2, 3)
            self.max_length = 7

        def run(self, inputs: list[EchoInput], params: EchoParams) -> list[EchoOutput]:
            if self.broken:
                raise RuntimeError("broken")
            self.seen.extend(item.text for item in inputs)
            if any(item.text == "bad" for item in inputs):
                raise InvalidInput("bad text")
            return [EchoOutput(text=item.text) for item in inputs]

        def stream(self, input: EchoInput, params: EchoParams) -> Generator[EchoChunk]:
            try:
                for number in range(1000):
                    time.sleep(0.001)
                    yield EchoChunk(number=number)
            finally:
                self.closed = True

    yield Echo
    del MODULES[MODULE_ID], TASKS["echo"]


@pytest.fixture
def replica(echo: type[Module], monkeypatch: pytest.MonkeyPatch) -> Replica:
    monkeypatch.setattr("ray.get_gpu_ids", lambda: [])
    return Replica({"module_id": MODULE_ID}, None)


async def infer(replica: Replica, *texts: str) -> list[Any]:
    return await replica.infer([EchoInput(text=text) for text in texts], EchoParams())


async def test_it_loads_once_and_is_warm(replica: Replica) -> None:
    module: Any = replica.module
    assert (module.loads, module.seen) == (1, ["warm"])
    assert await infer(replica, "a", "b") == [EchoOutput(text="a"), EchoOutput(text="b")]
    assert module.loads == 1


async def test_it_tells_a_bad_item_from_a_broken_model(replica: Replica) -> None:
    good, bad = await infer(replica, "good", "bad")
    assert good.text == "good"
    assert (bad.kind, str(bad)) == ("invalid", "bad text")
    replica.module.broken = True  # type: ignore[attr-defined]
    (broken,) = await infer(replica, "good")
    assert broken.kind == "internal"
    assert "broken" not in str(broken), "an unknown error is never quoted"


async def test_it_describes_itself(replica: Replica) -> None:
    described = await replica.describe()
    assert (described.device, described.dtype) == ("cpu", "float32")
    assert (described.parameters, described.bytes, described.max_length) == (9, 36, 7)
    replica.reconfigure({"batching": {"max_batch_size": 5}})
    assert (await replica.describe()).max_batch_size == 5


async def test_a_stream_stops_when_nobody_listens(replica: Replica) -> None:
    stream = replica.stream(EchoInput(text="a"), EchoParams())
    numbers = [(await anext(stream)).number for _ in range(3)]
    assert numbers == [0, 1, 2]
    await stream.aclose()
    await asyncio.sleep(0.05)
    assert replica.module.closed  # type: ignore[attr-defined]


async def test_streams_share_the_model_but_only_so_many(replica: Replica) -> None:
    streams = [replica.stream(EchoInput(text="a"), EchoParams()) for _ in range(20)]
    firsts = [asyncio.create_task(anext(stream)) for stream in streams]
    done, waiting = await asyncio.wait(firsts, timeout=1)
    assert (len(done), len(waiting)) == (16, 4)
    await streams[0].aclose()
    done, waiting = await asyncio.wait(firsts, timeout=1)
    assert (len(done), len(waiting)) == (17, 3)
    for stream, first in zip(streams, firsts, strict=True):
        first.cancel()
        if first in done:
            await stream.aclose()


async def test_it_is_ill_only_when_its_own_example_fails_too(replica: Replica) -> None:
    await replica.check_health()
    replica.module.broken = True  # type: ignore[attr-defined]
    for _ in range(3):
        await infer(replica, "a")
    with pytest.raises(RuntimeError, match="own example"):
        await replica.check_health()
    replica.module.broken = False  # type: ignore[attr-defined]
    await replica.check_health()
