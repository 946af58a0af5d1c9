"""vLLM as the engine, before a stand-in with its interface: answers are told as by our own."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.vllm import Vllm
from deployments.errors import InvalidInput, ModelNotReady
from deployments.generation.sequence import Row
from deployments.tasks.text_generation import TextGeneration
from tests.generation_fixtures import PROMPTS, begun, ids, stream, until, write
from tests.loaded_models import MODELS, loaded

pytestmark = pytest.mark.model  # loads weights: `make check` leaves these to `make test`

FOLDER = str(MODELS / "text_generation")
EVERY = 0.001  # seconds a token


@dataclass
class SamplingParams:
    temperature: float
    top_k: int
    top_p: float
    seed: int | None
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    max_tokens: int
    stop_token_ids: list[int]
    logprobs: int
    detokenize: bool
    output_kind: str


@dataclass
class AsyncEngineArgs:
    model: str
    revision: str | None
    dtype: str
    trust_remote_code: bool
    load_format: str
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    max_model_len: int = 512


@dataclass
class AsyncLLM:
    """Takes the best token each time, from the same checkpoint."""

    asked: AsyncEngineArgs
    calls: list[SamplingParams] = field(default_factory=list)
    live: int = 0
    broken: bool = False
    shut_down: bool = False

    @classmethod
    def from_engine_args(cls, arguments: AsyncEngineArgs) -> "AsyncLLM":
        asyncio.get_running_loop()
        if arguments.max_model_len > 10_000:
            raise ValueError("max_model_len is greater than the derived one")
        return cls(arguments)

    @property
    def model_config(self) -> Any:
        return SimpleNamespace(dtype=torch.float32, max_model_len=self.asked.max_model_len)

    async def generate(self, prompt: Any, params: SamplingParams, request_id: str) -> AsyncIterator[Any]:
        self.calls.append(params)
        self.live += 1
        model = loaded(TextGeneration.module_id, FOLDER).model
        read = list(prompt["prompt_token_ids"])
        try:
            for _ in range(params.max_tokens):
                await asyncio.sleep(EVERY)
                if self.broken:
                    raise RuntimeError("EngineCore encountered an issue")
                with torch.inference_mode():
                    logprobs = model(torch.tensor([read])).logits[0, -1].log_softmax(-1)
                best = logprobs.topk(max(params.logprobs, 1))
                read.append(int(best.indices[0]))
                pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
                told = {id: SimpleNamespace(logprob=value) for id, value in pairs}
                yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=[read[-1]], logprobs=[told])])
                if read[-1] in params.stop_token_ids:
                    return
        finally:
            self.live -= 1

    def shutdown(self) -> None:
        self.shut_down = True


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: dict[str, dict[str, Any]] = {
        "vllm": {"AsyncEngineArgs": AsyncEngineArgs, "SamplingParams": SamplingParams},
        "vllm.sampling_params": {"RequestOutputKind": SimpleNamespace(DELTA="delta")},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.async_llm": {"AsyncLLM": AsyncLLM},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


def load(**options: Any) -> TextGeneration:
    fresh = TextGeneration()
    fresh.load(Checkpoint(FOLDER, engine="vllm", engine_options=options))
    return fresh


@pytest.fixture
def module(vllm: None) -> Iterator[TextGeneration]:
    fresh = load()
    yield fresh
    fresh.generator.close()


@pytest.fixture
def ours() -> TextGeneration:
    return loaded(TextGeneration.module_id, FOLDER)


def engine(module: TextGeneration) -> AsyncLLM:
    assert isinstance(module.generator.engine, Vllm)
    return module.generator.engine._engine


async def test_answers_are_those_of_our_own_engine(module: TextGeneration, ours: TextGeneration) -> None:
    told = await asyncio.gather(*(write(module, prompt, top_n_tokens=2) for prompt in PROMPTS))
    for prompt, answer in zip(PROMPTS, told, strict=True):
        expected = await write(ours, prompt, top_n_tokens=2)
        assert answer.generated_text == expected.generated_text
        assert ids(answer) == ids(expected)
        assert answer.details.finish_reason == expected.details.finish_reason
        for token, same in zip(answer.details.tokens, expected.details.tokens, strict=True):
            assert token.logprob == pytest.approx(same.logprob, abs=1e-3)
        assert [[top.id for top in tops] for tops in answer.details.top_tokens] == [
            [top.id for top in tops] for tops in expected.details.top_tokens
        ]


async def test_so_are_streams(module: TextGeneration, ours: TextGeneration) -> None:
    chunks = [chunk async for chunk in stream(module, PROMPTS[0])]
    expected = [chunk async for chunk in stream(ours, PROMPTS[0])]
    assert [(c.index, c.token.id, c.token.text, c.generated_text) for c in chunks] == [
        (c.index, c.token.id, c.token.text, c.generated_text) for c in expected
    ]


async def test_a_stop_string_ends_the_work(module: TextGeneration) -> None:
    free = await write(module, PROMPTS[0], max_new_tokens=40)
    stop = free.generated_text[3:6]
    answer = await write(module, PROMPTS[0], max_new_tokens=40, stop=[stop])
    assert answer.generated_text == free.generated_text.split(stop)[0]
    assert answer.details.finish_reason == "stop_sequence"
    assert engine(module).live == 0


async def test_who_leaves_ends_the_work(module: TextGeneration) -> None:
    module.generator.ends.clear()
    chunks, _ = await begun(module, PROMPTS[0], max_new_tokens=400)
    assert module.counters()["running"] == 1
    await chunks.aclose()
    cancelled = asyncio.ensure_future(write(module, PROMPTS[1], max_new_tokens=400))
    await asyncio.sleep(5 * EVERY)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    assert (await until(module, running=0))["generated_tokens"] < 400
    assert engine(module).live == 0


@pytest.mark.parametrize("ends", ["_cancel", "_close"])
async def test_who_leaves_at_once_does_not_run(
    module: TextGeneration, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """Before vLLM has heard of it."""
    own: Any = module.generator.engine
    begin = own._begin

    def begin_and_end(row: Row, asked: Any) -> None:
        begin(row, asked)
        getattr(own, ends)(*[row] * (ends == "_cancel"))

    monkeypatch.setattr(own, "_begin", begin_and_end)
    leaves = asyncio.ensure_future(write(module, "I"))
    await asyncio.sleep(5 * EVERY)
    leaves.cancel()
    await asyncio.gather(leaves, return_exceptions=True)
    assert await until(module, running=0)
    assert not engine(module).calls


async def test_what_it_is_asked(module: TextGeneration) -> None:
    await write(module, "I", max_new_tokens=3)
    sampled = {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "seed": 11, "repetition_penalty": 1.2}
    penalties = {"frequency_penalty": 0.5, "presence_penalty": -0.5}
    await write(module, "I", max_new_tokens=4, do_sample=True, top_n_tokens=3, **sampled, **penalties)
    greedy, drawn = engine(module).calls
    assert (greedy.temperature, greedy.seed, greedy.max_tokens, greedy.logprobs) == (0.0, None, 3, 0)
    assert {name: getattr(drawn, name) for name in (*sampled, *penalties)} == sampled | penalties
    assert (drawn.max_tokens, drawn.logprobs) == (4, 3)
    assert drawn.stop_token_ids == sorted(module.generator.ends)
    with pytest.raises(InvalidInput, match="typical_p"):
        await write(module, "I", do_sample=True, typical_p=0.5)


async def test_any_loop_will_do(module: TextGeneration) -> None:
    def elsewhere() -> Any:
        return asyncio.run(write(module, "I"))

    assert (
        await asyncio.to_thread(elsewhere) == await asyncio.to_thread(elsewhere) == await write(module, "I")
    )


async def test_its_failure_is_the_caller_s(module: TextGeneration) -> None:
    engine(module).broken = True
    with pytest.raises(RuntimeError, match="EngineCore"):
        await write(module, "I")
    engine(module).broken = False
    assert (await write(module, "I")).generated_text


async def test_closing_ends_what_is_not_whole(module: TextGeneration) -> None:
    module.generator.ends.clear()
    told = asyncio.gather(*(write(module, p, max_new_tokens=400) for p in PROMPTS), return_exceptions=True)
    await asyncio.sleep(10 * EVERY)
    module.generator.close()
    assert {type(answer) for answer in await told} == {ModelNotReady}
    assert engine(module).shut_down
    with pytest.raises(ModelNotReady):
        await write(module, "I")


@pytest.mark.usefixtures("vllm")
def test_what_it_is_loaded_with(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(max_model_len=64)
    asked = engine(module).asked
    assert (asked.model, asked.load_format, asked.tensor_parallel_size) == (FOLDER, "safetensors", 1)
    assert module.max_length == 64
    assert {weight.device.type for weight in module.model.parameters()} == {"meta"}
    monkeypatch.setattr("deployments.engines.vllm.assigned_gpus", lambda: 0.25)
    assert engine(load()).asked.gpu_memory_utilization == pytest.approx(0.9 / 4)
    assert engine(load(gpu_memory_utilization=0.1)).asked.gpu_memory_utilization == 0.1
    monkeypatch.setattr("deployments.engines.vllm.assigned_gpus", lambda: 2.0)
    assert engine(load()).asked.tensor_parallel_size == 2


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize(
    ("options", "reason"), [({"max_model_len": 20_000}, "derived one"), ({"max_len": 5}, "max_len")]
)
def test_what_it_refuses_is_told(options: dict[str, int], reason: str) -> None:
    with pytest.raises(ModelNotReady, match=f"vLLM does not load .*{reason}"):
        load(**options)


def test_where_it_is_not_installed_that_is_told() -> None:
    with pytest.raises(ModelNotReady, match="not installed"):
        load()
