"""Rows that join and leave a running batch read as they would alone."""

import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from deployments.engines.openvino.generation import paged
from deployments.engines.openvino.network import LEAST_BLOCKS, Paged
from deployments.engines.torch import generation as kv_cache
from deployments.engines.torch.generation import MASK_AHEAD, Joined, network
from deployments.engines.torch.sequential_generation import Apart
from deployments.engines.torch.unpadded_generation import AHEAD, Ragged
from deployments.generation.sequence_runner import SequenceRunner
from tests import tiny_models as tiny

pytestmark = pytest.mark.model  # loads weights: `make check` leaves these to `make test`

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
LFM = {"layer_types": ["conv", "full_attention"], "num_key_value_heads": 2}

MODELS: dict[str, tuple[Callable[[], Path], type, int | None]] = {
    "gpt2": (tiny.gpt2, Ragged, None),
    "llama": (tiny.chatty, Ragged, None),
    "shared keys": (lambda: tiny.causal(hf.LlamaForCausalLM, num_key_value_heads=2), Ragged, None),
    "sliding window": (lambda: tiny.causal(hf.MistralForCausalLM, **WINDOW), Joined, None),
    "every other window": (lambda: tiny.causal(hf.Gemma3ForCausalLM, **WINDOW, **MIXED), Joined, None),
    "states": (lambda: tiny.causal(hf.MambaForCausalLM), Apart, None),
    "states and keys": (lambda: tiny.causal(hf.Lfm2ForCausalLM, **LFM), Apart, None),
    "no positions": (lambda: tiny.causal(hf.BloomForCausalLM), Apart, None),
    "long": (lambda: tiny.causal(hf.LlamaForCausalLM, rope_parameters=LONG), Apart, None),
    "dynamic": (lambda: tiny.causal(hf.LlamaForCausalLM, rope_parameters=DYNAMIC), Apart, 1),
}
RAGGED = [name for name, (_, kind, _) in MODELS.items() if kind is Ragged]
without_padding = pytest.mark.parametrize("way", [network, paged])
every_model = pytest.mark.parametrize("name", MODELS)
PROMPTS = [[40, 41, 42], [50] * 3 + list(range(60, 70)), [33, 44], [70, 71, 72, 73, 74, 75], [90]]


@cache
def model(name: str) -> Any:
    return hf.AutoModelForCausalLM.from_pretrained(MODELS[name][0]()).eval()


def alone(model: Any, prompt: list[int], count: int) -> list[int]:
    """What `generate` writes after a prompt."""
    ids = torch.tensor([prompt])
    plain = hf.GenerationConfig(max_new_tokens=count, do_sample=False, pad_token_id=0)
    model.generation_config.eos_token_id = None
    [told] = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=plain)
    return told[len(prompt) :].tolist()


class Batch:
    """Rows of a network that always take the best token."""

    def __init__(self, rows: SequenceRunner) -> None:
        self.network: Any = rows
        self.told: dict[int, list[int]] = {}
        self.running: list[int] = []

    def take(self, *places: int) -> None:
        logits, read = self.network.read([PROMPTS[place] for place in places])
        self.network.join(read, list(range(len(places))))
        self.told |= {place: [id] for place, id in zip(places, logits.argmax(-1).tolist(), strict=True)}
        self.running += places

    def take_beside_step(self, *places: int) -> None:
        last = [self.told[place][-1] for place in self.running]
        logits, read = self.network.read_beside_step([PROMPTS[place] for place in places], last)
        self.network.join(read, list(range(len(places))))
        self.running += places
        for place, id in zip(self.running, logits.argmax(-1).tolist(), strict=True):
            self.told.setdefault(place, []).append(id)

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            logits = self.network.step([self.told[place][-1] for place in self.running])
            for place, id in zip(self.running, logits.argmax(-1).tolist(), strict=True):
                self.told[place].append(id)

    def drop(self, *places: int) -> None:
        self.network.keep([at for at, place in enumerate(self.running) if place not in places])
        self.running = [place for place in self.running if place not in places]


@pytest.mark.parametrize(
    ("name", "way"),
    [*((name, network) for name in MODELS), *((name, way) for name in RAGGED for way in (Joined, paged))],
)
@torch.inference_mode()
def test_rows_that_come_and_go_read_as_alone(name: str, way: Callable[..., Any]) -> None:
    batch = Batch(way(model(name), 0))
    batch.take(0, 1)
    batch.step(3)
    batch.take(2)
    batch.step(2)
    batch.drop(1)
    batch.take(3, 4)
    batch.step(7)
    batch.drop(0, 3)
    batch.step(4)
    assert [len(batch.told[place]) for place in range(5)] == [13, 6, 14, 8, 12]
    for place, told in batch.told.items():
        assert told == alone(model(name), PROMPTS[place], len(told))
    assert len({tuple(told) for told in batch.told.values()}) == len(PROMPTS)
    batch.drop(2, 4)
    batch.take(3)
    batch.step(2)
    assert batch.told[3] == alone(model(name), PROMPTS[3], 3)


@without_padding
@pytest.mark.parametrize("name", RAGGED)
@torch.inference_mode()
def test_prompts_are_read_beside_a_step(name: str, way: Callable[..., Any]) -> None:
    batch = Batch(way(model(name), 0))
    batch.take(0)
    batch.take_beside_step(1, 2)
    batch.step(2)
    batch.take_beside_step(3)
    batch.drop(0)
    batch.take_beside_step(4)
    batch.step(3)
    assert [len(batch.told[place]) for place in range(5)] == [5, 8, 8, 5, 4]
    for place, told in batch.told.items():
        assert told == alone(model(name), PROMPTS[place], len(told))


@pytest.mark.parametrize("name", RAGGED)
@torch.inference_mode()
def test_in_bfloat16_rows_without_padding_are_as_near_as_torch_s(name: str) -> None:
    half = hf.AutoModelForCausalLM.from_pretrained(MODELS[name][0](), dtype=torch.bfloat16).eval()
    rows = network(half, 0)
    assert type(rows) is Ragged
    found, read = rows.read(PROMPTS)
    rows.join(read, [*range(len(PROMPTS))])
    assert as_near(found, half, model(name), PROMPTS)
    stepped = rows.step([44] * len(PROMPTS))
    assert as_near(stepped, half, model(name), [[*prompt, 44] for prompt in PROMPTS])


def as_near(found: torch.Tensor, half: Any, exact: Any, rows: list[list[int]]) -> bool:
    """Whether rows' last logits are hardly farther from `exact`'s than those of `half`, each row alone."""
    wanted, usual = (
        torch.stack([net(torch.tensor([row])).logits[0, -1] for row in rows]).float() for net in (exact, half)
    )
    return bool((found - wanted).abs().max() <= 1.5 * (usual - wanted).abs().max())


@without_padding
@torch.inference_mode()
def test_a_row_outgrows_its_room(way: Callable[..., Any]) -> None:
    batch = Batch(way(model("llama"), 0))
    batch.take(0, 1)
    batch.step(2 * AHEAD + 5)
    assert batch.told[0] == alone(model("llama"), PROMPTS[0], 2 * AHEAD + 6)


@torch.inference_mode()
def test_a_pass_that_fails_leaves_the_rows_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch(network(model("llama"), 0))
    batch.take(0)
    batch.step(2)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    last = batch.network.model.model.layers[-1].mlp
    monkeypatch.setattr(last, "forward", broken)
    with pytest.raises(RuntimeError, match="broken"):
        batch.take_beside_step(1)
    monkeypatch.undo()
    batch.step(4)
    assert batch.told[0] == alone(model("llama"), PROMPTS[0], 7)


@torch.inference_mode()
def test_so_does_a_step_in_one_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch(Joined(model("llama"), 0))
    batch.take(0, 1)
    batch.step(2)
    last = batch.network.model.model.layers[-1].mlp
    monkeypatch.setattr(last, "forward", lambda *_: 1 / 0)  # the layers before have written already
    with pytest.raises(ZeroDivisionError):
        batch.step()
    monkeypatch.undo()
    batch.step()
    batch.drop(1)
    batch.step(MASK_AHEAD)
    assert batch.told[0] == alone(model("llama"), PROMPTS[0], 4 + MASK_AHEAD)
    assert batch.told[1] == alone(model("llama"), PROMPTS[1], 4)


@torch.inference_mode()
def test_what_a_row_had_is_free_when_it_has_left() -> None:
    batch = Batch(Joined(model("llama"), 0))
    batch.take(0, 1)
    batch.step()
    rooms = [weakref.ref(layer.keys_room) for layer in batch.network.cache.layers]
    batch.drop(1)
    assert [room() for room in rooms] == [None] * len(rooms)


@torch.inference_mode()
def test_a_compiled_pass_that_fails_leaves_the_rows_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch(paged(model("llama"), 0))
    batch.take(0)
    batch.step(2)
    monkeypatch.setattr(Paged, "__call__", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        batch.take_beside_step(1)
    monkeypatch.undo()
    batch.take_beside_step(2)
    batch.step(4)
    assert batch.told[0] == alone(model("llama"), PROMPTS[0], 8)
    assert batch.told[2] == alone(model("llama"), PROMPTS[2], 5)


@torch.inference_mode()
def test_blocks_come_and_go_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch(paged(model("llama"), 0))
    pool = batch.network.network
    batch.take(0, 1, 3)
    batch.step(LEAST_BLOCKS * pool.block_size // 2)
    assert pool.blocks > LEAST_BLOCKS
    for place in (0, 1, 3):  # what they had kept is in the larger pool
        assert batch.told[place] == alone(model("llama"), PROMPTS[place], len(batch.told[place]))
    batch.drop(0, 1)
    before = pool.blocks
    batch.take(2, 4)
    batch.step(40)
    assert pool.blocks == before
    for place in (2, 4):
        assert batch.told[place] == alone(model("llama"), PROMPTS[place], 41)
    monkeypatch.setattr(Paged, "_room", lambda *_: 1 / 0)  # when memory has run out, too
    batch.network.clear()
    assert pool.blocks == LEAST_BLOCKS


@every_model
def test_a_model_s_cache_tells_how_its_rows_run(name: str) -> None:
    _, kind, most = MODELS[name]
    made = network(model(name), 0)
    assert (type(made), made.most) == (kind, most)


@torch.inference_mode()
def test_padding_goes_with_the_row_that_needed_it() -> None:
    batch = Batch(Joined(model("gpt2"), 0))
    batch.take(0, 1)
    batch.step(2)
    assert batch.network.cache.get_seq_length() == len(PROMPTS[1]) + 2
    batch.drop(1)
    assert batch.network.cache.get_seq_length() == len(PROMPTS[0]) + 2


@torch.inference_mode()
def test_a_row_may_fill_every_position_beside_a_longer_one() -> None:
    """GPT-2 has an embedding for each of 64 positions; padding must not count as one."""
    batch = Batch(Joined(model("gpt2"), 0))
    batch.take(1)
    batch.step(10)
    batch.take(4)
    batch.step(64 - len(PROMPTS[1]) - 10)
    batch.drop(1)
    batch.step(21)
    assert batch.told[4] == alone(model("gpt2"), PROMPTS[4], 63)


@torch.inference_mode()
def test_so_does_one_that_fails_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch(Joined(model("llama"), 0))
    batch.take(0, 1)
    batch.step(2)
    read = batch.network.read([PROMPTS[3]])
    monkeypatch.setattr(kv_cache, "_mask", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        batch.network.join(read[1], [0])
    monkeypatch.undo()
    batch.step(5)
    for place in (0, 1):
        assert batch.told[place] == alone(model("llama"), PROMPTS[place], 8)


@torch.inference_mode()
def test_a_join_that_fails_leaves_the_others_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch(Joined(model("llama"), 0))
    batch.take(0, 1)
    batch.step(2)
    made = torch.Tensor.new_zeros
    calls = iter(range(99))

    def scarce(like: torch.Tensor, *size: Any, **options: Any) -> torch.Tensor:
        if next(calls) == 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return made(like, *size, **options)

    monkeypatch.setattr(torch.Tensor, "new_zeros", scarce)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        batch.take(2)
    monkeypatch.undo()
    batch.step(5)
    for place in (0, 1):
        assert batch.told[place] == alone(model("llama"), PROMPTS[place], 8)
