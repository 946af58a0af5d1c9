"""Runners: sequences that join and leave a batch get the tokens that they get alone."""

import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from deployments.engines.openvino import generation as openvino
from deployments.engines.openvino.network import MIN_BLOCKS, PagedNetwork
from deployments.engines.torch import generation as torch_generation
from deployments.engines.torch.generation import RESERVED_MASK_COLUMNS, PaddedRunner, create_runner
from deployments.engines.torch.sequential_generation import SequentialRunner
from deployments.engines.torch.unpadded_generation import RESERVED_TOKENS, UnpaddedRunner
from deployments.generation.sequence_runner import SequenceRunner
from tests import tiny_models as tiny

pytestmark = pytest.mark.model

DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 8,
    "long_factor": [3.0] * 8,
    "original_max_position_embeddings": 9,
}
WINDOW = {"sliding_window": 5, "num_key_value_heads": 2}
MIXED = {"layer_types": ["sliding_attention", "full_attention"]}
RECURRENT = {"lru_width": 32, "block_types": ["recurrent", "attention"], "num_key_value_heads": 1}
LFM = {"layer_types": ["conv", "full_attention"], "num_key_value_heads": 2}

MODELS: dict[str, tuple[Callable[[], Path], type, int | None]] = {
    "gpt2": (tiny.gpt2, UnpaddedRunner, None),
    "llama": (tiny.chatty, UnpaddedRunner, None),
    "shared keys": (lambda: tiny.causal(hf.LlamaForCausalLM, num_key_value_heads=2), UnpaddedRunner, None),
    "sliding window": (lambda: tiny.causal(hf.MistralForCausalLM, **WINDOW), PaddedRunner, None),
    "every other window": (lambda: tiny.causal(hf.Gemma3ForCausalLM, **WINDOW, **MIXED), PaddedRunner, None),
    "states": (lambda: tiny.causal(hf.MambaForCausalLM), SequentialRunner, None),
    "states and keys": (lambda: tiny.causal(hf.Lfm2ForCausalLM, **LFM), SequentialRunner, None),
    "no positions": (lambda: tiny.causal(hf.BloomForCausalLM), SequentialRunner, None),
    "long": (lambda: tiny.causal(hf.LlamaForCausalLM, rope_parameters=LONG), SequentialRunner, None),
    "own state": (lambda: tiny.causal(hf.RecurrentGemmaForCausalLM, **RECURRENT), SequentialRunner, 1),
    "dynamic": (lambda: tiny.causal(hf.LlamaForCausalLM, rope_parameters=DYNAMIC), SequentialRunner, 1),
}
UNPADDED = [name for name, (_, runner, _) in MODELS.items() if runner is UnpaddedRunner]
unpadded_runners = pytest.mark.parametrize("create", [create_runner, openvino.create_runner])
every_model = pytest.mark.parametrize("name", MODELS)
PROMPTS = [[40, 41, 42], [50] * 3 + list(range(60, 70)), [33, 44], [70, 71, 72, 73, 74, 75], [90]]


@cache
def model(name: str) -> Any:
    return hf.AutoModelForCausalLM.from_pretrained(MODELS[name][0]()).eval()


def generate(model: Any, prompt: list[int], count: int) -> list[int]:
    """Return the tokens that transformers' `generate` appends to a prompt."""
    ids = torch.tensor([prompt])
    config = hf.GenerationConfig(max_new_tokens=count, do_sample=False, pad_token_id=0)
    model.generation_config.eos_token_id = None
    [output] = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return output[len(prompt) :].tolist()


class GreedyBatch:
    """Greedy generation with a runner; its methods take indices of `PROMPTS`."""

    def __init__(self, runner: SequenceRunner) -> None:
        self.runner: Any = runner
        self.generated: dict[int, list[int]] = {}
        self.running: list[int] = []

    def prefill(self, *prompts: int) -> None:
        logits, caches = self.runner.prefill([PROMPTS[prompt] for prompt in prompts])
        self.runner.append(caches, list(range(len(prompts))))
        best = logits.argmax(-1).tolist()
        self.generated |= {prompt: [id] for prompt, id in zip(prompts, best, strict=True)}
        self.running += prompts

    def prefill_and_decode(self, *prompts: int) -> None:
        last = [self.generated[prompt][-1] for prompt in self.running]
        logits, caches = self.runner.prefill_and_decode([PROMPTS[prompt] for prompt in prompts], last)
        self.runner.append(caches, list(range(len(prompts))))
        self.running += prompts
        for prompt, id in zip(self.running, logits.argmax(-1).tolist(), strict=True):
            self.generated.setdefault(prompt, []).append(id)

    def decode(self, steps: int = 1) -> None:
        for _ in range(steps):
            logits = self.runner.decode([self.generated[prompt][-1] for prompt in self.running])
            for prompt, id in zip(self.running, logits.argmax(-1).tolist(), strict=True):
                self.generated[prompt].append(id)

    def remove(self, *prompts: int) -> None:
        self.runner.select([index for index, prompt in enumerate(self.running) if prompt not in prompts])
        self.running = [prompt for prompt in self.running if prompt not in prompts]


@pytest.mark.parametrize(
    ("name", "create"),
    [
        *((name, create_runner) for name in MODELS if name != "own state"),  # one sequence at a time
        *((name, create) for name in UNPADDED for create in (PaddedRunner, openvino.create_runner)),
    ],
)
@torch.inference_mode()
def test_sequences_that_join_and_leave_get_the_same_tokens(name: str, create: Callable[..., Any]) -> None:
    batch = GreedyBatch(create(model(name), 0))
    batch.prefill(0, 1)
    batch.decode(3)
    batch.prefill(2)
    batch.decode(2)
    batch.remove(1)
    batch.prefill(3, 4)
    batch.decode(7)
    batch.remove(0, 3)
    batch.decode(4)
    assert [len(batch.generated[prompt]) for prompt in range(5)] == [13, 6, 14, 8, 12]
    for prompt, tokens in batch.generated.items():
        assert tokens == generate(model(name), PROMPTS[prompt], len(tokens))
    assert len({tuple(tokens) for tokens in batch.generated.values()}) == len(PROMPTS)
    batch.remove(2, 4)
    batch.prefill(3)
    batch.decode(2)
    assert batch.generated[3] == generate(model(name), PROMPTS[3], 3)


@unpadded_runners
@pytest.mark.parametrize("name", UNPADDED)
@torch.inference_mode()
def test_prefill_and_decode_in_one_pass(name: str, create: Callable[..., Any]) -> None:
    batch = GreedyBatch(create(model(name), 0))
    batch.prefill(0)
    batch.prefill_and_decode(1, 2)
    batch.decode(2)
    batch.prefill_and_decode(3)
    batch.remove(0)
    batch.prefill_and_decode(4)
    batch.decode(3)
    assert [len(batch.generated[prompt]) for prompt in range(5)] == [5, 8, 8, 5, 4]
    for prompt, tokens in batch.generated.items():
        assert tokens == generate(model(name), PROMPTS[prompt], len(tokens))


@pytest.mark.parametrize("name", UNPADDED)
@torch.inference_mode()
def test_unpadded_bfloat16_logits_are_as_accurate_as_single_ones(name: str) -> None:
    half = hf.AutoModelForCausalLM.from_pretrained(MODELS[name][0](), dtype=torch.bfloat16).eval()
    runner = create_runner(half, 0)
    assert type(runner) is UnpaddedRunner
    logits, caches = runner.prefill(PROMPTS)
    runner.append(caches, [*range(len(PROMPTS))])
    assert is_as_accurate(logits, half, model(name), PROMPTS)
    logits = runner.decode([44] * len(PROMPTS))
    assert is_as_accurate(logits, half, model(name), [[*prompt, 44] for prompt in PROMPTS])


def is_as_accurate(logits: torch.Tensor, half: Any, exact: Any, sequences: list[list[int]]) -> bool:
    """Return whether the logits' error is at most 1.5 times that of `half` with single sequences."""
    expected, reference = (
        torch.stack([net(torch.tensor([ids])).logits[0, -1] for ids in sequences]).float()
        for net in (exact, half)
    )
    return bool((logits - expected).abs().max() <= 1.5 * (reference - expected).abs().max())


@unpadded_runners
@torch.inference_mode()
def test_sequences_outgrow_their_reserved_caches(create: Callable[..., Any]) -> None:
    batch = GreedyBatch(create(model("llama"), 0))
    batch.prefill(0, 1)
    batch.decode(2 * RESERVED_TOKENS + 5)
    assert batch.generated[0] == generate(model("llama"), PROMPTS[0], 2 * RESERVED_TOKENS + 6)


@torch.inference_mode()
def test_failed_unpadded_pass_leaves_the_caches_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = GreedyBatch(create_runner(model("llama"), 0))
    batch.prefill(0)
    batch.decode(2)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    last_layer = batch.runner.model.model.layers[-1].mlp
    monkeypatch.setattr(last_layer, "forward", broken)
    with pytest.raises(RuntimeError, match="broken"):
        batch.prefill_and_decode(1)
    monkeypatch.undo()
    batch.decode(4)
    assert batch.generated[0] == generate(model("llama"), PROMPTS[0], 7)


@torch.inference_mode()
def test_failed_padded_step_leaves_the_cache_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = GreedyBatch(PaddedRunner(model("llama"), 0))
    batch.prefill(0, 1)
    batch.decode(2)
    last_layer = batch.runner.model.model.layers[-1].mlp
    monkeypatch.setattr(last_layer, "forward", lambda *_: 1 / 0)  # earlier layers have updated the cache
    with pytest.raises(ZeroDivisionError):
        batch.decode()
    monkeypatch.undo()
    batch.decode()
    batch.remove(1)
    batch.decode(RESERVED_MASK_COLUMNS)
    count = 4 + RESERVED_MASK_COLUMNS
    assert batch.generated[0] == generate(model("llama"), PROMPTS[0], count)
    assert batch.generated[1] == generate(model("llama"), PROMPTS[1], 4)


@torch.inference_mode()
def test_removed_sequence_frees_its_cache_buffers() -> None:
    batch = GreedyBatch(PaddedRunner(model("llama"), 0))
    batch.prefill(0, 1)
    batch.decode()
    buffers = [weakref.ref(layer.keys_buffer) for layer in batch.runner.cache.layers]
    batch.remove(1)
    assert [buffer() for buffer in buffers] == [None] * len(buffers)


@torch.inference_mode()
def test_failed_openvino_pass_leaves_the_blocks_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = GreedyBatch(openvino.create_runner(model("llama"), 0))
    batch.prefill(0)
    batch.decode(2)
    monkeypatch.setattr(PagedNetwork, "__call__", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        batch.prefill_and_decode(1)
    monkeypatch.undo()
    batch.prefill_and_decode(2)
    batch.decode(4)
    assert batch.generated[0] == generate(model("llama"), PROMPTS[0], 8)
    assert batch.generated[2] == generate(model("llama"), PROMPTS[2], 5)


@torch.inference_mode()
def test_block_pool_grows_reuses_blocks_and_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = GreedyBatch(openvino.create_runner(model("llama"), 0))
    pool = batch.runner.network
    batch.prefill(0, 1, 3)
    batch.decode(MIN_BLOCKS * pool.block_size // 2)
    assert pool.blocks > MIN_BLOCKS
    for prompt in (0, 1, 3):  # the larger pool has the content of the smaller one
        count = len(batch.generated[prompt])
        assert batch.generated[prompt] == generate(model("llama"), PROMPTS[prompt], count)
    batch.remove(0, 1)
    before = pool.blocks
    batch.prefill(2, 4)
    batch.decode(40)
    assert pool.blocks == before
    for prompt in (2, 4):
        assert batch.generated[prompt] == generate(model("llama"), PROMPTS[prompt], 41)
    monkeypatch.setattr(PagedNetwork, "_create_pool", lambda *_: 1 / 0)  # a release allocates no memory
    batch.runner.clear()
    assert pool.blocks == MIN_BLOCKS


@every_model
def test_create_runner_selects_the_runner_of_an_architecture(name: str) -> None:
    _, runner_type, max_sequences = MODELS[name]
    runner = create_runner(model(name), 0)
    assert (type(runner), runner.max_sequences) == (runner_type, max_sequences)


@torch.inference_mode()
def test_padding_leaves_with_the_longest_sequence() -> None:
    batch = GreedyBatch(PaddedRunner(model("gpt2"), 0))
    batch.prefill(0, 1)
    batch.decode(2)
    assert batch.runner.cache.get_seq_length() == len(PROMPTS[1]) + 2
    batch.remove(1)
    assert batch.runner.cache.get_seq_length() == len(PROMPTS[0]) + 2


@torch.inference_mode()
def test_padding_uses_no_positions() -> None:
    """GPT-2 has 64 position embeddings; a sequence may use all of them beside a longer one."""
    batch = GreedyBatch(PaddedRunner(model("gpt2"), 0))
    batch.prefill(1)
    batch.decode(10)
    batch.prefill(4)
    batch.decode(64 - len(PROMPTS[1]) - 10)
    batch.remove(1)
    batch.decode(21)
    assert batch.generated[4] == generate(model("gpt2"), PROMPTS[4], 63)


@torch.inference_mode()
def test_append_that_fails_at_the_mask_leaves_the_batch_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = GreedyBatch(PaddedRunner(model("llama"), 0))
    batch.prefill(0, 1)
    batch.decode(2)
    _, caches = batch.runner.prefill([PROMPTS[3]])
    monkeypatch.setattr(torch_generation, "_mask", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        batch.runner.append(caches, [0])
    monkeypatch.undo()
    batch.decode(5)
    for prompt in (0, 1):
        assert batch.generated[prompt] == generate(model("llama"), PROMPTS[prompt], 8)


@torch.inference_mode()
def test_append_without_memory_leaves_the_batch_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = GreedyBatch(PaddedRunner(model("llama"), 0))
    batch.prefill(0, 1)
    batch.decode(2)
    new_zeros = torch.Tensor.new_zeros
    calls = iter(range(99))

    def failing_new_zeros(tensor: torch.Tensor, *size: Any, **options: Any) -> torch.Tensor:
        if next(calls) == 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return new_zeros(tensor, *size, **options)

    monkeypatch.setattr(torch.Tensor, "new_zeros", failing_new_zeros)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        batch.prefill(2)
    monkeypatch.undo()
    batch.decode(5)
    for prompt in (0, 1):
        assert batch.generated[prompt] == generate(model("llama"), PROMPTS[prompt], 8)
