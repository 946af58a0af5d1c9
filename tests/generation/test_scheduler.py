"""Continuous batching: sequences join and leave the batch, and never change each other's tokens."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from deployments.generation.waiting_queue import group_by_length
from deployments.limits import Batching
from deployments.tasks.text_generation import TextGeneration
from tests import tiny_models as tiny
from tests.generation_fixtures import (
    MIXED_PARAMS,
    PROMPTS,
    Pass,
    PassRecorder,
    generate,
    generation_threads,
    start_in_order,
    start_stream,
    stream,
    token_ids,
    wait_for_counters,
    wait_until_idle,
)
from tests.loaded_models import loaded

pytestmark = pytest.mark.model


@cache
def mamba() -> Path:
    return tiny.causal(hf.MambaForCausalLM)


@pytest.fixture(params=[tiny.gpt2, tiny.chatty, mamba], ids=["gpt2", "llama", "mamba"])
def shared_module(request: pytest.FixtureRequest) -> Iterator[TextGeneration]:
    shared = loaded(TextGeneration.module_id, request.param())
    yield shared
    for patched in (shared.model, shared.generator.engine.runner):  # a `PassRecorder` may replace these
        for name in ("forward", "_forward"):
            vars(patched).pop(name, None)


async def test_batched_outputs_equal_single_outputs(shared_module: TextGeneration) -> None:
    requests = list(zip(PROMPTS, MIXED_PARAMS, strict=True))
    single = [await generate(shared_module, prompt, **params) for prompt, params in requests]
    batched = await asyncio.gather(
        *(generate(shared_module, prompt, **params) for prompt, params in requests)
    )
    assert [output.generated_text for output in batched] == [output.generated_text for output in single]
    for output, expected in zip(batched, single, strict=True):
        assert token_ids(output) == token_ids(expected)
        assert (output.details.top_tokens is None) == (expected.details.top_tokens is None)
        for token, expected_token in zip(output.details.tokens, expected.details.tokens, strict=True):
            assert token.logprob == pytest.approx(expected_token.logprob, abs=1e-3)


async def test_sequences_that_join_later_get_the_same_tokens(shared_module: TextGeneration) -> None:
    """Each starts when the one before has its first token, so all run together but none started together."""
    long = [{**params, "max_new_tokens": 40} for params in MIXED_PARAMS]
    requests = list(zip(PROMPTS, long, strict=True))
    single = [await generate(shared_module, prompt, **params) for prompt, params in requests]
    recorder = PassRecorder(shared_module, seconds=0.02)
    streams = [await start_stream(shared_module, prompt, **params) for prompt, params in requests]
    assert shared_module.counters()["running"] > len(PROMPTS) / 2
    recorder.seconds = 0.0
    for (chunks, first), expected in zip(streams, single, strict=True):
        received = [first, *[chunk async for chunk in chunks]]
        assert [chunk.token.id for chunk in received] == token_ids(expected)
        assert received[-1].generated_text == expected.generated_text


async def test_out_of_memory_does_not_change_outputs(shared_module: TextGeneration) -> None:
    """Each fifth pass fails, unless a single sequence runs: that would fail its request."""
    requests = list(zip(PROMPTS, MIXED_PARAMS, strict=True))
    single = [await generate(shared_module, prompt, **params) for prompt, params in requests]
    recorder = PassRecorder(shared_module)
    failures: list[int] = []

    def fail(_: torch.Tensor) -> Exception | None:
        if len(recorder.passes) % 5 or shared_module.counters()["running"] < 2:
            return None
        failures.append(len(recorder.passes))
        return torch.cuda.OutOfMemoryError("CUDA out of memory")

    recorder.fail = fail
    coroutines = (generate(shared_module, prompt, **params) for prompt, params in requests)
    batched = await asyncio.gather(*await start_in_order(shared_module, recorder, coroutines))
    assert len(failures) > 2
    assert [token_ids(output) for output in batched] == [token_ids(output) for output in single]


async def test_running_sequences_share_a_pass(module: TextGeneration) -> None:
    recorder = PassRecorder(module)
    requests = (generate(module, prompt, max_new_tokens=30) for prompt in PROMPTS * 2)
    await asyncio.gather(*await start_in_order(module, recorder, requests))
    counters = module.counters()
    assert counters["generated_tokens"] == 30 * 12
    assert counters["steps"] == sum(p.sequences > p.new for p in recorder.passes)
    assert counters["steps"] < 29 * 12 / 4, "a single sequence takes 29 steps"
    assert Pass(12, 0, 1) in recorder.passes


async def test_finished_sequences_leave_the_batch(module: TextGeneration) -> None:
    recorder = PassRecorder(module)
    requests = (generate(module, "I", max_new_tokens=count) for count in (3, 60, 9))
    await asyncio.gather(*await start_in_order(module, recorder, requests))
    assert [p.sequences for p in recorder.passes if not p.new][-20:] == [1] * 20
    assert (await wait_until_idle(module))["generated_tokens"] == 72


async def test_stop_string_across_tokens_ends_only_its_sequence(shared_module: TextGeneration) -> None:
    unlimited = [await generate(shared_module, prompt) for prompt in PROMPTS]
    stops = [output.generated_text[3:6] for output in unlimited]
    requests = list(zip(PROMPTS, stops, strict=True))
    stopped = await asyncio.gather(
        *(generate(shared_module, prompt, stop=[stop]) for prompt, stop in requests)
    )
    for output, whole, stop in zip(stopped, unlimited, stops, strict=True):
        assert output.generated_text == whole.generated_text.split(stop)[0]
        assert output.details.finish_reason == "stop_sequence"
    streams = [
        [chunk async for chunk in stream(shared_module, prompt, stop=[stop])] for prompt, stop in requests
    ]
    for chunks, output in zip(streams, stopped, strict=True):
        assert "".join(c.token.text for c in chunks if not c.token.special) == output.generated_text


class TestDisconnects:
    async def test_closed_stream_stops_generating(self, module: TextGeneration) -> None:
        recorder = PassRecorder(module, seconds=0.03)
        chunks, _ = await start_stream(module, "I", max_new_tokens=60)
        await anext(chunks)
        recorder.gate.clear()
        before = module.counters()["generated_tokens"]
        await chunks.aclose()
        recorder.gate.set()
        after = (await wait_until_idle(module))["generated_tokens"]
        assert after - before <= 2

    async def test_cancelled_request_stops_generating_during_a_step(self, module: TextGeneration) -> None:
        recorder = PassRecorder(module, seconds=0.05)

        async def consume_stream() -> None:
            async for _ in stream(module, "I", max_new_tokens=60):
                pass

        coroutines = (consume_stream(), generate(module, "Tom", max_new_tokens=60))
        tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
        await wait_for_counters(module, running=2, generated_tokens=5)
        recorder.gate.clear()
        before = module.counters()["generated_tokens"]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        recorder.gate.set()
        assert (await wait_until_idle(module))["generated_tokens"] - before <= 2 * 2
        assert (await generate(module, "I")).details.generated_tokens == 12

    async def test_disconnect_does_not_change_batch_neighbours(self, module: TextGeneration) -> None:
        single = await generate(module, "I", max_new_tokens=40)
        chunks, _ = await start_stream(module, PROMPTS[2])
        neighbour = asyncio.ensure_future(generate(module, "I", max_new_tokens=40))
        await anext(chunks)
        await chunks.aclose()
        assert token_ids(await neighbour) == token_ids(single)

    async def test_request_cancelled_while_waiting_runs_no_pass(self, module: TextGeneration) -> None:
        recorder = PassRecorder(module, seconds=0.002)
        module.generator.limits = Batching(max_batch_size=1)
        chunks, _ = await start_stream(module, "I", max_new_tokens=50)
        recorder.gate.clear()
        waiting = asyncio.ensure_future(generate(module, "Hello! How are you?"))
        await wait_for_counters(module, waiting=1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert module.counters()["waiting"] == 0
        recorder.gate.set()
        assert len([chunk async for chunk in chunks]) == 49
        assert (await wait_until_idle(module))["generated_tokens"] == 50
        assert sum(p.new for p in recorder.passes) <= 1

    async def test_500_disconnects_leak_no_tasks_or_threads(self, module: TextGeneration) -> None:
        tasks, threads = asyncio.all_tasks(), generation_threads()

        async def disconnect(index: int) -> None:
            async with aclosing(stream(module, PROMPTS[index % len(PROMPTS)], max_new_tokens=60)) as chunks:
                for _ in range(index % 3):
                    await anext(chunks)

        await asyncio.gather(*(disconnect(index) for index in range(500)))
        await wait_until_idle(module)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks
        assert len(generation_threads() - threads) == 1

    async def test_unread_stream_starts_nothing(self, module: TextGeneration) -> None:
        recorder = PassRecorder(module)
        await stream(module, "I").aclose()
        assert module.counters() == {"generated_tokens": 0, "steps": 0, "running": 0, "waiting": 0}
        assert not recorder.passes


def test_group_by_length_limits_padding() -> None:
    class FakeSequence:
        def __init__(self, arrival_index: int, length: int) -> None:
            self.arrival_index, self.length = arrival_index, length

    sequences: Any = [FakeSequence(*pair) for pair in enumerate((200, 5, 9, 7, 190, 30))]
    groups = [[sequence.length for sequence in group] for group in group_by_length(sequences, 32)]
    assert groups == [[200, 190], [5, 9, 7], [30]]
    assert len(group_by_length(sequences, inf)) == 1
    assert group_by_length([], 32) == []
