"""A replica without Ray: it loads once, batches, streams, stops, describes itself, knows when it is ill."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import Field
from transformers import AutoTokenizer

from deployments.catalog.applications import bind
from deployments.config.model_config import MODULES
from deployments.config.yaml_file import parse
from deployments.engines.checkpoint import Checkpoint
from deployments.errors import InferenceError, InvalidInput
from deployments.replica import model_replica
from deployments.replica.model_replica import Replica
from deployments.schema import Schema, Text
from deployments.task import TASKS, Module, task
from deployments.transport.connection import PROTOCOL_VERSION

ROOT = Path(__file__).parents[2]
RAISED = {"fails": ValueError("secret"), "bad": InvalidInput("bad text")}
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

        async def stream(self, input: EchoInput, params: EchoParams) -> AsyncGenerator[EchoChunk, None]:
            try:
                for number in range(9 if input.text == "short" else 1000):
                    await asyncio.sleep(0.001)
                    if number == 5 and input.text in RAISED:
                        raise RAISED[input.text]
                    yield EchoChunk(number=number)
            finally:
                self.closed = True

    yield Echo
    del MODULES[MODULE_ID], TASKS["echo"]


@pytest.fixture
def replica(echo: type[Module], monkeypatch: pytest.MonkeyPatch) -> Replica:
    monkeypatch.setattr("ray.get_gpu_ids", lambda: [])
    return Replica({"module_id": MODULE_ID}, None)


def test_start_publishes_its_phases(echo: type[Module], monkeypatch: pytest.MonkeyPatch) -> None:
    phases: list[str] = []
    monkeypatch.setattr("ray.get_gpu_ids", lambda: [])
    monkeypatch.setattr(model_replica, "publish_phase", phases.append)
    Replica({"module_id": MODULE_ID}, None)
    assert phases == ["reading the weights", "warming up"]


async def test_replica_listens_for_routers(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setattr("deployments.replica.model_replica.ongoing_requests", lambda: None)
    address = await replica.record_replica_metadata()
    assert (address["host"], address["version"]) == ("127.0.0.1", PROTOCOL_VERSION)
    replica._server._server.close()


async def test_replica_without_rays_private_parts_does_not_listen(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Any:
        raise AttributeError("_replica_impl")

    warnings: list[str] = []
    monkeypatch.setattr("deployments.replica.model_replica.ongoing_requests", missing)
    # Not `caplog`: libraries that other tests load disable existing loggers.
    monkeypatch.setattr(model_replica.log, "warning", lambda message, *_, **__: warnings.append(message))
    assert await replica.record_replica_metadata() == {}
    assert len(warnings) == 1


async def infer(replica: Replica, *texts: str) -> list[Any]:
    return await replica.infer([EchoInput(text=text) for text in texts], EchoParams())


async def test_model_loads_once_and_is_warm(replica: Replica) -> None:
    module: Any = replica.module
    assert (module.loads, {*module.seen}) == (1, {"warm"})
    assert await infer(replica, "a", "b") == [EchoOutput(text="a"), EchoOutput(text="b")]
    assert module.loads == 1


async def test_bad_input_does_not_make_the_replica_unhealthy(replica: Replica) -> None:
    good, bad = await infer(replica, "good", "bad")
    assert good.text == "good"
    assert (bad.kind, str(bad)) == ("invalid", "bad text")
    replica.module.broken = True  # type: ignore[attr-defined]
    (broken,) = await infer(replica, "good")
    assert broken.kind == "internal"
    assert "broken" not in str(broken), "an unknown error is never quoted"


async def test_replica_describes_its_model(replica: Replica) -> None:
    described = await replica.describe()
    assert (described.device, described.dtype) == ("cpu", "float32")
    assert (described.parameters, described.bytes, described.max_length) == (9, 36, 7)
    replica.reconfigure({"batching": {"max_batch_size": 5}})
    assert (await replica.describe()).max_batch_size == 5


async def test_closed_stream_stops_the_module(replica: Replica) -> None:
    stream = replica.stream(EchoInput(text="a"), EchoParams())
    bunches = [await anext(stream) for _ in range(3)]
    numbers = [chunk.number for bunch in bunches for chunk in bunch]
    assert len(bunches[0]) == 1, "the first at once"
    assert numbers == [*range(len(numbers))]
    await stream.aclose()
    await asyncio.sleep(0.05)
    assert replica.module.closed  # type: ignore[attr-defined]


async def test_concurrent_streams_share_the_message_rate(replica: Replica) -> None:
    async def read() -> tuple[int, list[int]]:
        bunches = [bunch async for bunch in replica.stream(EchoInput(text="a"), EchoParams())]
        return len(bunches), [chunk.number for bunch in bunches for chunk in bunch]

    streams = await asyncio.gather(*(read() for _ in range(20)))
    assert all(numbers == [*range(1000)] for _, numbers in streams)
    assert max(count for count, _ in streams) < 100


async def test_failing_stream_delivers_earlier_chunks(replica: Replica) -> None:
    chunks: list[EchoChunk] = []

    async def read() -> None:
        async for bunch in replica.stream(EchoInput(text="fails"), EchoParams()):
            chunks.extend(bunch)

    with pytest.raises(InferenceError, match="failed on this input"):
        await read()
    assert [chunk.number for chunk in chunks] == [0, 1, 2, 3, 4]


async def test_replica_is_unhealthy_only_if_its_example_fails_too(replica: Replica) -> None:
    await replica.check_health()
    replica.module.broken = True  # type: ignore[attr-defined]
    for _ in range(3):
        await infer(replica, "a")
    with pytest.raises(RuntimeError, match="own example"):
        await replica.check_health()
    replica.module.broken = False  # type: ignore[attr-defined]
    await replica.check_health()


async def hear(replica: Replica, *texts: str) -> None:
    for text in texts:
        with suppress(InferenceError):
            async for _ in replica.stream(EchoInput(text=text), EchoParams()):
                pass


async def test_failing_streams_make_the_replica_unhealthy(replica: Replica) -> None:
    replica.module.broken = True  # type: ignore[attr-defined]
    await hear(replica, "fails", "fails", "bad")
    await replica.check_health()
    await hear(replica, "fails")
    with pytest.raises(RuntimeError, match="own example"):
        await replica.check_health()


async def test_successful_stream_resets_the_failure_count(replica: Replica) -> None:
    await hear(replica, "fails", "fails", "fails")
    assert replica.scheduler.failures == 3
    abandoned = replica.stream(EchoInput(text="a"), EchoParams())
    await anext(abandoned)
    await abandoned.aclose()
    assert replica.scheduler.failures == 3, "what was given up tells nothing"
    await hear(replica, "short")
    assert replica.scheduler.failures == 0


async def test_tuning_respects_configured_limits(echo: type[Module], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.get_gpu_ids", lambda: [])
    passes: list[int] = []
    run = echo.run
    monkeypatch.setattr(echo, "run", lambda self, *given: passes.append(len(given[0])) or run(self, *given))
    steps: list[str] = []
    monkeypatch.setattr(
        "deployments.replica.model_replica.release_cached_memory",
        lambda _: steps.append(f"{len(passes)} passes"),
    )
    application = bind(parse({"module_id": MODULE_ID, "batching": {"max_batch_size": 3}}, "here"))
    replica = Replica(*application._bound_deployment.init_args)
    assert max(passes) == 2
    assert steps == [f"{len(passes)} passes"], "after the last of them"
    assert (await replica.describe()).max_batch_size == 3


async def test_tokenize_and_decode_round_trip(replica: Replica) -> None:
    with pytest.raises(InvalidInput, match="no tokenizer"):
        await replica.tokenize(["a"])
    replica.module.tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "sentiment")
    (tokens,) = await replica.tokenize(["I loved it."])
    plain = [token for token in tokens if not token["special"]]
    assert [tokens[0]["special"], tokens[-1]["special"]] == [True, True]
    assert ["I loved it."[token["start"] : token["stop"]] for token in plain] == [
        token["text"] for token in plain
    ]
    assert await replica.tokenize(["I loved it."], special=False) == [plain]
    assert await replica.count_tokens(["I loved it.", "I"]) == [len(tokens), 3]
    assert await replica.decode([[token["id"] for token in tokens]]) == ["i loved it."]
    with pytest.raises(InvalidInput, match="no token 999999"):
        await replica.decode([[999_999]])


async def test_tokenization_does_not_block_other_requests(replica: Replica) -> None:
    class Speller(list[str]):
        def __call__(self, texts: list[str], **_: Any) -> dict[str, Any]:
            seen.add(threading.get_ident())
            return {"input_ids": [[1]]}

        def decode(self, row: list[int], **_: Any) -> str:
            seen.add(threading.get_ident())
            return "a"

    seen: set[int] = set()
    replica.module.tokenizer = Speller("abc")
    assert (await replica.count_tokens(["a"]), await replica.decode([[2]])) == ([1], ["a"])
    assert seen and threading.get_ident() not in seen


@pytest.fixture
def alone() -> Iterator[type[Module]]:
    @task("alone")
    class Alone(Module):
        """Batches by itself."""

        module_id = MODULE_ID
        default_model = "none"
        running = 0
        most = 0

        def load(self, checkpoint: Checkpoint) -> None:
            self.model = torch.nn.Linear(2, 3)

        async def run(self, inputs: list[EchoInput], params: EchoParams) -> list[EchoOutput]:
            (input,) = inputs
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await asyncio.sleep(60 if input.text == "slow" else 0.01)
                if input.text == "bad":
                    raise ValueError("secret")
            finally:
                self.running -= 1
            return [EchoOutput(text=input.text)]

        def counters(self) -> dict[str, int]:
            return {"running": self.running}

    yield Alone
    del MODULES[MODULE_ID], TASKS["alone"]


async def test_module_with_async_run_schedules_its_own_batches(
    alone: type[Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.get_gpu_ids", lambda: [])
    replica = Replica({"module_id": MODULE_ID}, None)
    good, bad, other = await infer(replica, "good", "bad", "other")
    assert (good.text, other.text) == ("good", "other")
    assert (bad.kind, "secret" in str(bad)) == ("internal", False)
    assert replica.module.most == 3  # type: ignore[attr-defined]
    slow = asyncio.create_task(infer(replica, "slow", "slow"))
    await asyncio.sleep(0.02)
    assert await replica.counters() == {"running": 2}
    slow.cancel()
    await asyncio.sleep(0.02)
    assert await replica.counters() == {"running": 0}
