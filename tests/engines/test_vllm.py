"""vLLM as the engine, with a fake that has its interface: outputs equal those of torch."""

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
from deployments.generation.sequence import Sequence
from deployments.tasks.text_generation import TextGeneration
from tests.generation_fixtures import (
    PROMPTS,
    generate,
    start_stream,
    stream,
    token_ids,
    wait_for_counters,
)
from tests.loaded_models import MODELS, loaded

pytestmark = pytest.mark.model

FOLDER = str(MODELS / "text_generation")
TOKEN_S = 0.001


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
    """A fake engine that generates greedily with the same checkpoint."""

    arguments: AsyncEngineArgs
    requests: list[SamplingParams] = field(default_factory=list)
    running: int = 0
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
        return SimpleNamespace(dtype=torch.float32, max_model_len=self.arguments.max_model_len)

    async def generate(self, prompt: Any, params: SamplingParams, request_id: str) -> AsyncIterator[Any]:
        self.requests.append(params)
        self.running += 1
        model = loaded(TextGeneration.module_id, FOLDER).model
        sequence = list(prompt["prompt_token_ids"])
        try:
            for _ in range(params.max_tokens):
                await asyncio.sleep(TOKEN_S)
                if self.broken:
                    raise RuntimeError("EngineCore encountered an issue")
                with torch.inference_mode():
                    logprobs = model(torch.tensor([sequence])).logits[0, -1].log_softmax(-1)
                best = logprobs.topk(max(params.logprobs, 1))
                sequence.append(int(best.indices[0]))
                pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
                logprob_of = {id: SimpleNamespace(logprob=value) for id, value in pairs}
                delta = SimpleNamespace(token_ids=[sequence[-1]], logprobs=[logprob_of])
                yield SimpleNamespace(outputs=[delta])
                if sequence[-1] in params.stop_token_ids:
                    return
        finally:
            self.running -= 1

    def shutdown(self) -> None:
        self.shut_down = True


@pytest.fixture
def fake_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    modules: dict[str, dict[str, Any]] = {
        "vllm": {"AsyncEngineArgs": AsyncEngineArgs, "SamplingParams": SamplingParams},
        "vllm.sampling_params": {"RequestOutputKind": SimpleNamespace(DELTA="delta")},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.async_llm": {"AsyncLLM": AsyncLLM},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


def load(**options: Any) -> TextGeneration:
    module = TextGeneration()
    module.load(Checkpoint(FOLDER, engine="vllm", engine_options=options))
    return module


@pytest.fixture
def module(fake_vllm: None) -> Iterator[TextGeneration]:
    loaded_module = load()
    yield loaded_module
    loaded_module.generator.close()


@pytest.fixture
def torch_module() -> TextGeneration:
    return loaded(TextGeneration.module_id, FOLDER)


def fake_engine(module: TextGeneration) -> AsyncLLM:
    assert isinstance(module.generator.engine, Vllm)
    return module.generator.engine._engine


async def test_outputs_equal_those_of_torch(module: TextGeneration, torch_module: TextGeneration) -> None:
    outputs = await asyncio.gather(*(generate(module, prompt, top_n_tokens=2) for prompt in PROMPTS))
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        expected = await generate(torch_module, prompt, top_n_tokens=2)
        assert output.generated_text == expected.generated_text
        assert token_ids(output) == token_ids(expected)
        assert output.details.finish_reason == expected.details.finish_reason
        for token, expected_token in zip(output.details.tokens, expected.details.tokens, strict=True):
            assert token.logprob == pytest.approx(expected_token.logprob, abs=1e-3)
        assert [[top.id for top in tops] for tops in output.details.top_tokens] == [
            [top.id for top in tops] for tops in expected.details.top_tokens
        ]


async def test_streams_equal_those_of_torch(module: TextGeneration, torch_module: TextGeneration) -> None:
    chunks = [chunk async for chunk in stream(module, PROMPTS[0])]
    expected = [chunk async for chunk in stream(torch_module, PROMPTS[0])]
    assert [(c.index, c.token.id, c.token.text, c.generated_text) for c in chunks] == [
        (c.index, c.token.id, c.token.text, c.generated_text) for c in expected
    ]


async def test_stop_string_ends_the_vllm_request(module: TextGeneration) -> None:
    unlimited = await generate(module, PROMPTS[0], max_new_tokens=40)
    stop = unlimited.generated_text[3:6]
    output = await generate(module, PROMPTS[0], max_new_tokens=40, stop=[stop])
    assert output.generated_text == unlimited.generated_text.split(stop)[0]
    assert output.details.finish_reason == "stop_sequence"
    assert fake_engine(module).running == 0


async def test_disconnect_ends_the_vllm_request(module: TextGeneration) -> None:
    module.generator.eos_token_ids.clear()
    chunks, _ = await start_stream(module, PROMPTS[0], max_new_tokens=400)
    assert module.counters()["running"] == 1
    await chunks.aclose()
    cancelled = asyncio.ensure_future(generate(module, PROMPTS[1], max_new_tokens=400))
    await asyncio.sleep(5 * TOKEN_S)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    assert (await wait_for_counters(module, running=0))["generated_tokens"] < 400
    assert fake_engine(module).running == 0


@pytest.mark.parametrize("method", ["_cancel", "_close"])
async def test_immediate_abort_sends_no_vllm_request(
    module: TextGeneration, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    engine: Any = module.generator.engine
    start = engine._start

    def start_and_abort(sequence: Sequence, params: Any) -> None:
        start(sequence, params)
        getattr(engine, method)(*[sequence] * (method == "_cancel"))

    monkeypatch.setattr(engine, "_start", start_and_abort)
    request = asyncio.ensure_future(generate(module, "I"))
    await asyncio.sleep(5 * TOKEN_S)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    assert await wait_for_counters(module, running=0)
    assert not fake_engine(module).requests


async def test_vllm_sampling_params(module: TextGeneration) -> None:
    await generate(module, "I", max_new_tokens=3)
    sampling = {"temperature": 0.7, "top_k": 5, "top_p": 0.9, "seed": 11, "repetition_penalty": 1.2}
    penalties = {"frequency_penalty": 0.5, "presence_penalty": -0.5}
    await generate(module, "I", max_new_tokens=4, do_sample=True, top_n_tokens=3, **sampling, **penalties)
    greedy, sampled = fake_engine(module).requests
    assert (greedy.temperature, greedy.seed, greedy.max_tokens, greedy.logprobs) == (0.0, None, 3, 0)
    assert {name: getattr(sampled, name) for name in (*sampling, *penalties)} == sampling | penalties
    assert (sampled.max_tokens, sampled.logprobs) == (4, 3)
    assert sampled.stop_token_ids == sorted(module.generator.eos_token_ids)
    with pytest.raises(InvalidInput, match="typical_p"):
        await generate(module, "I", do_sample=True, typical_p=0.5)


async def test_requests_work_from_any_event_loop(module: TextGeneration) -> None:
    def generate_in_new_loop() -> Any:
        return asyncio.run(generate(module, "I"))

    first, second = [await asyncio.to_thread(generate_in_new_loop) for _ in range(2)]
    assert first == second == await generate(module, "I")


async def test_vllm_error_reaches_the_caller(module: TextGeneration) -> None:
    fake_engine(module).broken = True
    with pytest.raises(RuntimeError, match="EngineCore"):
        await generate(module, "I")
    fake_engine(module).broken = False
    assert (await generate(module, "I")).generated_text


async def test_close_fails_unfinished_requests(module: TextGeneration) -> None:
    module.generator.eos_token_ids.clear()
    requests = (generate(module, prompt, max_new_tokens=400) for prompt in PROMPTS)
    results = asyncio.gather(*requests, return_exceptions=True)
    await asyncio.sleep(10 * TOKEN_S)
    module.generator.close()
    assert {type(result) for result in await results} == {ModelNotReady}
    assert fake_engine(module).shut_down
    with pytest.raises(ModelNotReady):
        await generate(module, "I")


@pytest.mark.usefixtures("fake_vllm")
def test_vllm_engine_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(max_model_len=64)
    arguments = fake_engine(module).arguments
    assert (arguments.model, arguments.load_format, arguments.tensor_parallel_size) == (
        FOLDER,
        "safetensors",
        1,
    )
    assert module.max_length == 64
    assert {weight.device.type for weight in module.model.parameters()} == {"meta"}
    monkeypatch.setattr("deployments.engines.vllm.assigned_gpus", lambda: 0.25)
    assert fake_engine(load()).arguments.gpu_memory_utilization == pytest.approx(0.9 / 4)
    assert fake_engine(load(gpu_memory_utilization=0.1)).arguments.gpu_memory_utilization == 0.1
    monkeypatch.setattr("deployments.engines.vllm.assigned_gpus", lambda: 2.0)
    assert fake_engine(load()).arguments.tensor_parallel_size == 2


@pytest.mark.usefixtures("fake_vllm")
@pytest.mark.parametrize(
    ("options", "reason"), [({"max_model_len": 20_000}, "derived one"), ({"max_len": 5}, "max_len")]
)
def test_engine_arguments_that_vllm_rejects_are_explained(options: dict[str, int], reason: str) -> None:
    with pytest.raises(ModelNotReady, match=f"vLLM does not load .*{reason}"):
        load(**options)


def test_missing_vllm_is_explained() -> None:
    with pytest.raises(ModelNotReady, match="not installed"):
        load()
