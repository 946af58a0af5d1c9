"""Continuous batching with failing passes, short memory, limits and closed event loops."""

import asyncio
from typing import Any

import pytest
import torch

from deployments.errors import InvalidInput, ModelNotReady
from deployments.generation import running_batch, waiting_queue
from deployments.generation.sampler import Sampler
from deployments.limits import Batching
from deployments.tasks.text_generation import TextGeneration, TextGenerationInput, TextGenerationParams
from tests.generation_fixtures import (
    MIXED_PARAMS,
    PROMPTS,
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

pytestmark = pytest.mark.model

NO_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory")


class TestFailures:
    async def test_bad_prompt_fails_alone(self, module: TextGeneration) -> None:
        single = {prompt: token_ids(await generate(module, prompt)) for prompt in PROMPTS}
        [*_, bad] = module.tokenizer("0")["input_ids"]
        recorder = PassRecorder(module)
        recorder.fail = lambda ids: ValueError("bad") if ids[:, -1].eq(bad).any() else None
        requests = (generate(module, prompt) for prompt in PROMPTS)
        results = await asyncio.gather(*requests, return_exceptions=True)
        for prompt, result in zip(PROMPTS, results, strict=True):
            if prompt == "0":
                assert isinstance(result, ValueError)
            else:
                assert token_ids(result) == single[prompt]

    async def test_failed_step_fails_only_running_sequences(self, module: TextGeneration) -> None:
        single = token_ids(await generate(module, "Hello! How"))
        recorder = PassRecorder(module)
        steps = iter(range(99))
        recorder.fail = lambda ids: RuntimeError("broken") if ids.shape[1] == 1 and next(steps) == 3 else None
        requests = (generate(module, prompt) for prompt in PROMPTS[2:5])
        tasks = await start_in_order(module, recorder, requests)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(error) for error in results] == ["broken"] * 3
        assert await wait_until_idle(module)
        assert token_ids(await generate(module, "Hello! How")) == single

    async def test_error_ends_stream(self, module: TextGeneration) -> None:
        recorder = PassRecorder(module)
        recorder.fail = lambda ids: RuntimeError("broken") if len(recorder.passes) > 3 else None
        chunks, _ = await start_stream(module, "I")
        assert [(await anext(chunks)).index for _ in range(2)] == [2, 3]
        with pytest.raises(RuntimeError, match="broken"):
            await anext(chunks)

    @pytest.mark.parametrize("error", [StopIteration("odd"), SystemExit("panic")])
    async def test_no_error_stops_the_thread(self, module: TextGeneration, error: BaseException) -> None:
        recorder = PassRecorder(module)
        recorder.fail = lambda ids: error if len(recorder.passes) == 4 else None
        with pytest.raises(RuntimeError, match=r"odd|panic"):
            await generate(module, "I")
        assert (await generate(module, "I")).details.generated_tokens == 12

    async def test_tokenizer_error_fails_only_its_request(self, module: TextGeneration) -> None:
        single = token_ids(await generate(module, "Hello! How"))
        module.tokenizer.decode = lambda *args, **kwargs: {}["panic"]
        with pytest.raises(KeyError):
            await generate(module, "Where is the sun?")
        del module.tokenizer.decode
        assert token_ids(await generate(module, "Hello! How")) == single

    async def test_out_of_memory_prefill_is_split(self, module: TextGeneration) -> None:
        single = [token_ids(await generate(module, prompt)) for prompt in PROMPTS]
        recorder = PassRecorder(module)
        no_memory = torch.cuda.OutOfMemoryError("CUDA out of memory")
        recorder.fail = lambda ids: no_memory if len(ids) > 2 and ids.shape[1] > 1 else None
        outputs = await asyncio.gather(*(generate(module, prompt) for prompt in PROMPTS))
        assert [token_ids(output) for output in outputs] == single

    async def test_split_prefill_keeps_the_order_of_arrival(self, module: TextGeneration) -> None:
        recorder, prefilled = PassRecorder(module), []

        def fail(ids: torch.Tensor) -> Exception | None:
            if ids.shape[1] > 1 and len(ids) <= 2:
                prefilled.extend(ids[:, -1].tolist())
            return torch.cuda.OutOfMemoryError("CUDA out of memory") if len(ids) > 2 else None

        recorder.fail = fail
        inputs = [TextGenerationInput(text=text) for text in "ABCDEFG"]
        await module.run(inputs, TextGenerationParams(max_new_tokens=1))
        assert prefilled == [module.tokenizer(text)["input_ids"][-1] for text in "ABCDEFG"]

    async def test_prefill_without_memory_waits_for_a_running_sequence(self, module: TextGeneration) -> None:
        single = token_ids(await generate(module, "Hello! How"))
        recorder = PassRecorder(module)
        no_memory = torch.cuda.OutOfMemoryError("CUDA out of memory")
        recorder.fail = lambda ids: (
            no_memory if ids.shape[1] > 1 and module.counters()["running"] > 1 else None
        )
        requests = (generate(module, "I", max_new_tokens=50), generate(module, "Hello! How"))
        running, waiting = await start_in_order(module, recorder, requests)
        assert (await running).details.generated_tokens == 50
        assert token_ids(await waiting) == single
        failed = sum(p.new for p in recorder.passes) - 2
        assert failed == (2 if module.generator.engine.runner.prefill_and_decode else 1)

    async def test_single_sequence_without_memory_fails(self, module: TextGeneration) -> None:
        recorder = PassRecorder(module)
        recorder.fail = lambda ids: torch.cuda.OutOfMemoryError("CUDA out of memory")
        with pytest.raises(torch.cuda.OutOfMemoryError):
            await generate(module, "Hello! How")
        assert len(recorder.passes) == 1


class TestPreemption:
    """Steps that run out of memory preempt the younger sequences, which continue later unchanged."""

    async def test_preempted_sequences_finish_unchanged(self, module: TextGeneration) -> None:
        params = [options | {"max_new_tokens": 9 + 5 * index} for index, options in enumerate(MIXED_PARAMS)]
        single = [await generate(module, p, **options) for p, options in zip(PROMPTS, params, strict=True)]
        params[0]["stop"] = [single[0].generated_text[3:6]]
        single[0] = await generate(module, PROMPTS[0], **params[0])
        assert single[0].details.finish_reason == "stop_sequence"
        before = module.counters()["generated_tokens"]
        recorder = PassRecorder(module)
        steps = iter(range(99))
        recorder.fail = lambda ids: (
            NO_MEMORY if ids.shape[1] == 1 and len(ids) > 2 and next(steps) > 2 else None
        )
        requests = (generate(module, p, **options) for p, options in zip(PROMPTS, params, strict=True))
        outputs = await asyncio.gather(*await start_in_order(module, recorder, requests))
        assert next(steps) > 3
        for output, expected in zip(outputs, single, strict=True):
            assert token_ids(output) == token_ids(expected)
            assert output.generated_text == expected.generated_text
            for name in ("finish_reason", "generated_tokens", "input_length", "seed"):
                assert getattr(output.details, name) == getattr(expected.details, name)
        generated = module.counters()["generated_tokens"] - before
        assert generated == sum(output.details.generated_tokens for output in outputs)

    async def test_preempted_stream_continues_at_the_next_token(self, module: TextGeneration) -> None:
        single = [token_ids(await generate(module, prompt, max_new_tokens=40)) for prompt in PROMPTS]
        recorder = PassRecorder(module, seconds=0.002)
        streams = [await start_stream(module, prompt) for prompt in PROMPTS]
        recorder.fail = lambda ids: NO_MEMORY if len(ids) > 2 else None
        for (chunks, first), expected in zip(streams, single, strict=True):
            received = [first, *[chunk async for chunk in chunks]]
            assert [chunk.token.id for chunk in received] == expected
            assert [chunk.index for chunk in received] == [*range(1, 41)]
        assert await wait_until_idle(module)

    async def test_older_sequences_are_not_preempted(self, module: TextGeneration) -> None:
        recorder, finished = PassRecorder(module, seconds=0.02), []

        async def consume(index: int, chunks: Any) -> None:
            async for _ in chunks:
                pass
            finished.append(index)

        streams = [await start_stream(module, prompt) for prompt in PROMPTS[:4]]
        await wait_for_counters(module, running=4)
        recorder.passes.clear()
        recorder.fail = lambda ids: NO_MEMORY if len(ids) > 1 else None
        recorder.seconds = 0.0
        await asyncio.gather(*(consume(index, chunks) for index, (chunks, _) in enumerate(streams)))
        assert finished == [0, 1, 2, 3]
        prefills = sum(p.new for p in recorder.passes if p.sequences == 1)
        assert prefills < 2 * 4, "at most one failed and one repeated prefill a sequence"

    async def test_sampling_without_memory_preempts(
        self, module: TextGeneration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        requests = list(zip(PROMPTS, MIXED_PARAMS, strict=True))
        single = [token_ids(await generate(module, prompt, **params)) for prompt, params in requests]

        class FailingSampler(Sampler):
            def __call__(self, logits: torch.Tensor) -> Any:
                tokens = super().__call__(logits)
                if len(logits) > 2:
                    raise NO_MEMORY
                return tokens

        monkeypatch.setattr(running_batch, "Sampler", FailingSampler)
        outputs = await asyncio.gather(*(generate(module, prompt, **params) for prompt, params in requests))
        assert [token_ids(output) for output in outputs] == single

    async def test_preemption_in_one_request_keeps_its_first_inputs(
        self, module: TextGeneration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The order of arrival decides, even if the long prompts have a later prefill pass."""
        inputs = [TextGenerationInput(text=text) for text in ("I", "a" * 80, "Tom", "0")]
        params = TextGenerationParams(max_new_tokens=9, do_sample=False)
        single = [(await module.run([input], params))[0] for input in inputs]
        sampled: list[list[int]] = []

        class FailingSampler(Sampler):
            def __call__(self, logits: torch.Tensor) -> Any:
                if self.sequences is module.generator.engine.batch.sequences:
                    sampled.append([sequence.arrival_index % len(inputs) for sequence in self.sequences])
                    if len(logits) > 2:
                        raise NO_MEMORY
                return super().__call__(logits)

        monkeypatch.setattr(running_batch, "Sampler", FailingSampler)
        assert await module.run(inputs, params) == single
        all_indices, remaining, *_ = sampled
        assert sorted(all_indices) == [0, 1, 2, 3]
        assert remaining == [0, 1]

    async def test_select_without_memory_does_not_change_outputs(
        self, module: TextGeneration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lengths = range(9, 9 + 3 * len(PROMPTS), 3)
        requests = list(zip(PROMPTS, lengths, strict=True))
        single = [token_ids(await generate(module, prompt, max_new_tokens=n)) for prompt, n in requests]
        runner: Any = module.generator.engine.runner
        select, failed = runner.select, []

        def failing_select(indices: list[int]) -> None:
            if len(indices) in {1, 2, 4} - {*failed}:
                failed.append(len(indices))
                raise NO_MEMORY
            select(indices)

        monkeypatch.setattr(runner, "select", failing_select)
        outputs = await asyncio.gather(
            *(generate(module, prompt, max_new_tokens=n) for prompt, n in requests)
        )
        assert failed
        assert [token_ids(output) for output in outputs] == single

    async def test_last_sequence_without_memory_fails_alone(self, module: TextGeneration) -> None:
        single = token_ids(await generate(module, PROMPTS[1], max_new_tokens=40))
        recorder = PassRecorder(module, seconds=0.02)
        streams = [await start_stream(module, prompt) for prompt in PROMPTS[:2]]
        await wait_for_counters(module, running=2)
        failures = iter([True, True])
        recorder.fail = lambda _: NO_MEMORY if next(failures, False) else None
        recorder.seconds = 0.0
        (failing, _), (other, first) = streams
        with pytest.raises(torch.cuda.OutOfMemoryError):
            [chunk async for chunk in failing]
        assert [first.token.id, *[chunk.token.id async for chunk in other]] == single

    async def test_batch_size_recovers_after_out_of_memory(self, module: TextGeneration) -> None:
        module.generator.limits = Batching(max_batch_size=8)
        recorder = PassRecorder(module)
        failures: list[int] = []

        def fail(ids: torch.Tensor) -> Exception | None:
            if failures or ids.shape != (8, 1):
                return None
            failures.append(len(recorder.passes))
            return NO_MEMORY

        recorder.fail = fail
        requests = (generate(module, "I", max_new_tokens=6) for _ in range(80))
        await asyncio.gather(*await start_in_order(module, recorder, requests))
        sizes = [p.sequences for p in recorder.passes[failures[0] :]]
        assert max(sizes[:6]) <= 5, sizes
        assert max(sizes) == 8, sizes


class TestLimits:
    async def test_max_batch_size_limits_running_sequences(self, module: TextGeneration) -> None:
        recorder = PassRecorder(module)
        for size in (2, 5):
            module.generator.limits = Batching(max_batch_size=size)
            requests = (generate(module, prompt) for prompt in PROMPTS)
            await asyncio.gather(*await start_in_order(module, recorder, requests))
            assert max(p.sequences for p in recorder.passes) == size

    async def test_max_batch_tokens_limits_prefill(self, module: TextGeneration) -> None:
        recorder = PassRecorder(module)
        module.generator.limits = Batching(max_batch_tokens=12)
        requests = (generate(module, "a" * size) for size in (2, 3, 3, 3, 3, 5, 6, 30))
        await asyncio.gather(*await start_in_order(module, recorder, requests))
        prefills = [p for p in recorder.passes if p.new]
        assert all(p.new * p.columns <= 12 or p.new == 1 for p in prefills)
        assert max(p.columns for p in prefills) > 12, "a long prompt has a pass alone"
        assert max(p.new for p in prefills) > 1, prefills

    async def test_max_batch_tokens_limits_caches(self, module: TextGeneration) -> None:
        module.generator.limits = Batching(max_batch_tokens=8)
        recorder = PassRecorder(module)
        requests = (generate(module, "a" * 10, max_new_tokens=20) for _ in range(12))
        await asyncio.gather(*await start_in_order(module, recorder, requests))
        length = len(module.tokenizer("a" * 10)["input_ids"]) + 20
        assert max(p.sequences for p in recorder.passes) == 16 * 8 // length

    async def test_long_sequence_does_not_block_short_ones_without_padding(
        self, module: TextGeneration
    ) -> None:
        module.generator.limits = Batching(max_batch_tokens=8)
        recorder, finished = PassRecorder(module), []

        async def generate_tokens(count: int) -> None:
            await generate(module, "I", max_new_tokens=count)
            finished.append(count)

        requests = map(generate_tokens, (90, 9, 9, 9, 9))
        await asyncio.gather(*await start_in_order(module, recorder, requests))
        pads = module.generator.engine.runner.pads
        assert finished == ([90, 9, 9, 9, 9] if pads else [9, 9, 9, 9, 90])

    async def test_sequences_that_outgrow_the_caches_are_preempted(
        self, module: TextGeneration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Admission reserves few tokens, so sequences run together until they fill the caches."""
        monkeypatch.setattr(waiting_queue, "RESERVED_TOKENS", 4)
        single = [token_ids(await generate(module, prompt, max_new_tokens=100)) for prompt in PROMPTS[:3]]
        module.generator.limits = Batching(max_batch_tokens=8)
        runner: Any = module.generator.engine.runner
        recorder, cached, finished = PassRecorder(module), [], []

        def record_cached_tokens(_: torch.Tensor) -> None:
            lengths = runner.lengths if runner.pads else [cache.length for cache in runner.caches]
            cached.append(len(lengths) * max(lengths, default=0) if runner.pads else sum(lengths))

        async def check_output(index: int) -> None:
            output = await generate(module, PROMPTS[index], max_new_tokens=100)
            assert token_ids(output) == single[index]
            finished.append(index)

        recorder.fail = record_cached_tokens
        await asyncio.gather(*await start_in_order(module, recorder, map(check_output, range(3))))
        assert max(p.sequences for p in recorder.passes) == 3
        assert 100 < max(cached) <= 16 * 8
        assert finished == [0, 1, 2]

    async def test_requests_run_in_the_order_of_arrival(self, module: TextGeneration) -> None:
        module.generator.limits = Batching(max_batch_size=1)
        finished: list[int] = []

        async def generate_prompt(index: int) -> None:
            await generate(module, PROMPTS[index], max_new_tokens=3)
            finished.append(index)

        requests = map(generate_prompt, range(6))
        await asyncio.gather(*await start_in_order(module, PassRecorder(module), requests))
        assert finished == [*range(6)]

    async def test_prompt_longer_than_the_caches_is_rejected(self, module: TextGeneration) -> None:
        module.generator.limits = Batching(max_batch_tokens=1)
        with pytest.raises(InvalidInput, match="accepts at most 15"):
            await generate(module, "It rains. " * 6, max_new_tokens=1)
        output = await generate(module, "I", max_new_tokens=99)
        assert output.details.generated_tokens == 14
        assert output.details.finish_reason == "length"

    async def test_token_outside_the_vocabulary_is_rejected(self, module: TextGeneration) -> None:
        module.generator.vocabulary_size = 10
        with pytest.raises(InvalidInput, match="does not know"):
            await generate(module, "Hello")


class TestEventLoops:
    def test_requests_work_from_any_event_loop(self, module: TextGeneration) -> None:
        first, second = (asyncio.run(generate(module, "I")) for _ in range(2))
        assert first == second

    async def test_two_event_loops_share_the_batch(self, module: TextGeneration) -> None:
        single = [token_ids(await generate(module, prompt)) for prompt in PROMPTS]
        other_loop = asyncio.to_thread(lambda: asyncio.run(generate(module, PROMPTS[0])))
        this_loop = asyncio.gather(*(generate(module, prompt) for prompt in PROMPTS[1:]))
        assert [token_ids(output) for output in (await other_loop, *await this_loop)] == single

    async def test_closed_event_loop_aborts_its_sequences(self, module: TextGeneration) -> None:
        PassRecorder(module, seconds=0.02)
        loop = asyncio.new_event_loop()
        chunks = stream(module, "I", max_new_tokens=60)
        await asyncio.to_thread(loop.run_until_complete, anext(chunks))
        loop.close()
        assert (await wait_until_idle(module))["generated_tokens"] < 20

    async def test_close_ends_the_thread_and_fails_unfinished_requests(self, module: TextGeneration) -> None:
        recorder = PassRecorder(module)
        recorder.gate.clear()
        module.generator.limits = Batching(max_batch_size=1)
        threads = generation_threads()
        results = asyncio.gather(
            *(generate(module, prompt, max_new_tokens=60) for prompt in PROMPTS), return_exceptions=True
        )
        await wait_for_counters(module, running=1, waiting=5)
        [thread] = generation_threads() - threads
        module.generator.close()
        recorder.gate.set()
        assert {type(result) for result in await results} == {ModelNotReady}
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()
        assert await wait_until_idle(module)
        with pytest.raises(ModelNotReady):
            await generate(module, "I")
