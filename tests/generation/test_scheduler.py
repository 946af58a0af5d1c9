"""One batch for all answers: they join it, leave it, fail in it alone, and never change each other."""

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

from deployments.generation.waiting_queue import of_like_length
from deployments.limits import Batching
from deployments.tasks.text_generation import TextGeneration
from tests import tiny_models as tiny
from tests.generation_fixtures import (
    MIXED,
    PROMPTS,
    Pass,
    Passes,
    begun,
    generating,
    idle,
    ids,
    in_turn,
    stream,
    until,
    write,
)
from tests.generation_fixtures import module as module
from tests.loaded_models import loaded

pytestmark = pytest.mark.model  # loads weights: `make check` leaves these to `make test`


@cache
def mamba() -> Path:
    return tiny.causal(hf.MambaForCausalLM)


@pytest.fixture(params=[tiny.gpt2, tiny.chatty, mamba], ids=["gpt2", "llama", "mamba"])
def writer(request: pytest.FixtureRequest) -> Iterator[TextGeneration]:
    shared = loaded(TextGeneration.module_id, request.param())
    yield shared
    for passes in (shared.model, shared.generator.engine.network):  # where a test has put `Passes`
        for name in ("forward", "_forward"):
            vars(passes).pop(name, None)


async def test_answers_together_are_those_alone(writer: TextGeneration) -> None:
    alone = [await write(writer, p, **params) for p, params in zip(PROMPTS, MIXED, strict=True)]
    together = await asyncio.gather(
        *(write(writer, p, **params) for p, params in zip(PROMPTS, MIXED, strict=True))
    )
    assert [answer.generated_text for answer in together] == [answer.generated_text for answer in alone]
    for one, other in zip(together, alone, strict=True):
        assert ids(one) == ids(other)
        assert (one.details.top_tokens is None) == (other.details.top_tokens is None)
        for token, same in zip(one.details.tokens, other.details.tokens, strict=True):
            assert token.logprob == pytest.approx(same.logprob, abs=1e-3)


async def test_one_that_joins_midway_changes_nothing(writer: TextGeneration) -> None:
    """Each begins when the one before has its first token, so all run together and none began together."""
    long = [{**params, "max_new_tokens": 40} for params in MIXED]
    alone = [await write(writer, prompt, **params) for prompt, params in zip(PROMPTS, long, strict=True)]
    passes = Passes(writer, seconds=0.02)
    begins = [await begun(writer, prompt, **params) for prompt, params in zip(PROMPTS, long, strict=True)]
    assert writer.counters()["running"] > len(PROMPTS) / 2
    passes.seconds = 0.0
    for (chunks, first), answer in zip(begins, alone, strict=True):
        told = [first, *[chunk async for chunk in chunks]]
        assert [chunk.token.id for chunk in told] == ids(answer)
        assert told[-1].generated_text == answer.generated_text


async def test_a_pass_without_memory_changes_nothing(writer: TextGeneration) -> None:
    """Each fifth fails, whatever it reads; one that fails alone would fail its caller, and is spared."""
    alone = [await write(writer, p, **params) for p, params in zip(PROMPTS, MIXED, strict=True)]
    passes = Passes(writer)
    short: list[int] = []

    def fail(_: torch.Tensor) -> Exception | None:
        if len(passes.made) % 5 or writer.counters()["running"] < 2:
            return None
        short.append(len(passes.made))
        return torch.cuda.OutOfMemoryError("CUDA out of memory")

    passes.fail = fail
    calls = (write(writer, p, **params) for p, params in zip(PROMPTS, MIXED, strict=True))
    together = await asyncio.gather(*await in_turn(writer, passes, calls))
    assert len(short) > 2
    assert [ids(answer) for answer in together] == [ids(answer) for answer in alone]


async def test_all_that_run_share_a_pass(module: TextGeneration) -> None:
    passes = Passes(module)
    calls = (write(module, prompt, max_new_tokens=30) for prompt in PROMPTS * 2)
    await asyncio.gather(*await in_turn(module, passes, calls))
    counters = module.counters()
    assert counters["generated_tokens"] == 30 * 12
    assert counters["steps"] == sum(one.rows > one.new for one in passes.made)
    assert counters["steps"] < 29 * 12 / 4, "each takes 29 alone"
    assert Pass(12, 0, 1) in passes.made


async def test_those_that_are_done_leave(module: TextGeneration) -> None:
    passes = Passes(module)
    calls = (write(module, "I", max_new_tokens=count) for count in (3, 60, 9))
    await asyncio.gather(*await in_turn(module, passes, calls))
    assert [one.rows for one in passes.made if not one.new][-20:] == [1] * 20
    assert (await idle(module))["generated_tokens"] == 72


async def test_stop_strings_across_tokens_end_their_row_alone(writer: TextGeneration) -> None:
    free = [await write(writer, prompt) for prompt in PROMPTS]
    stops = [answer.generated_text[3:6] for answer in free]
    bound = await asyncio.gather(*(write(writer, p, stop=[s]) for p, s in zip(PROMPTS, stops, strict=True)))
    for answer, whole, stop in zip(bound, free, stops, strict=True):
        assert answer.generated_text == whole.generated_text.split(stop)[0]
        assert answer.details.finish_reason == "stop_sequence"
    chunks = [
        [chunk async for chunk in stream(writer, p, stop=[s])] for p, s in zip(PROMPTS, stops, strict=True)
    ]
    for told, answer in zip(chunks, bound, strict=True):
        assert "".join(c.token.text for c in told if not c.token.special) == answer.generated_text


class TestWhoeverGoes:
    async def test_closing_a_stream_ends_its_work(self, module: TextGeneration) -> None:
        passes = Passes(module, seconds=0.03)
        chunks, _ = await begun(module, "I", max_new_tokens=60)
        await anext(chunks)
        passes.gate.clear()
        before = module.counters()["generated_tokens"]
        await chunks.aclose()
        passes.gate.set()
        after = (await idle(module))["generated_tokens"]
        assert after - before <= 2

    async def test_so_does_cancelling_in_the_middle_of_a_step(self, module: TextGeneration) -> None:
        passes = Passes(module, seconds=0.05)

        async def read() -> None:
            async for _ in stream(module, "I", max_new_tokens=60):
                pass

        calls = [asyncio.ensure_future(call) for call in (read(), write(module, "Tom", max_new_tokens=60))]
        await until(module, running=2, generated_tokens=5)
        passes.gate.clear()
        before = module.counters()["generated_tokens"]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        passes.gate.set()
        assert (await idle(module))["generated_tokens"] - before <= 2 * 2
        assert (await write(module, "I")).details.generated_tokens == 12

    async def test_the_others_write_on(self, module: TextGeneration) -> None:
        alone = await write(module, "I", max_new_tokens=40)
        chunks, _ = await begun(module, PROMPTS[2])
        other = asyncio.ensure_future(write(module, "I", max_new_tokens=40))
        await anext(chunks)
        await chunks.aclose()
        assert ids(await other) == ids(alone)

    async def test_one_that_waits_costs_nothing(self, module: TextGeneration) -> None:
        passes = Passes(module, seconds=0.002)
        module.generator.limits = Batching(max_batch_size=1)
        chunks, _ = await begun(module, "I", max_new_tokens=50)
        passes.gate.clear()
        waits = asyncio.ensure_future(write(module, "Hello! How are you?"))
        await until(module, waiting=1)
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        assert module.counters()["waiting"] == 0
        passes.gate.set()
        assert len([chunk async for chunk in chunks]) == 49
        assert (await idle(module))["generated_tokens"] == 50
        assert sum(one.new for one in passes.made) <= 1

    async def test_many_leave_nothing_behind(self, module: TextGeneration) -> None:
        tasks, threads = asyncio.all_tasks(), generating()

        async def drop(place: int) -> None:
            async with aclosing(stream(module, PROMPTS[place % len(PROMPTS)], max_new_tokens=60)) as chunks:
                for _ in range(place % 3):
                    await anext(chunks)

        await asyncio.gather(*(drop(place) for place in range(500)))
        await idle(module)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks
        assert len(generating() - threads) == 1

    async def test_one_that_nobody_reads_starts_nothing(self, module: TextGeneration) -> None:
        passes = Passes(module)
        await stream(module, "I").aclose()
        assert module.counters() == {"generated_tokens": 0, "steps": 0, "running": 0, "waiting": 0}
        assert not passes.made


def test_prompts_of_like_length_are_read_together() -> None:
    class Prompt:
        def __init__(self, number: int, length: int) -> None:
            self.number, self.length = number, length

    rows: Any = [Prompt(*given) for given in enumerate((200, 5, 9, 7, 190, 30))]
    groups = [[row.length for row in group] for group in of_like_length(rows, 32)]
    assert groups == [[200, 190], [5, 9, 7], [30]]
    assert len(of_like_length(rows, inf)) == 1
    assert of_like_length([], 32) == []
