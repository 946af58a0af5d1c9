"""What one batch for all answers does with errors, with too much at once, and with loops that come and go."""

import asyncio
from typing import Any

import pytest
import torch

from deployments.errors import InvalidInput, ModelNotReady
from deployments.generation import running_batch
from deployments.generation import waiting_queue as admission
from deployments.generation.sampler import Chooser
from deployments.limits import Batching
from deployments.tasks.text_generation import TextGeneration, TextGenerationInput, TextGenerationParams
from tests.generation_fixtures import (
    MIXED,
    PROMPTS,
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

pytestmark = pytest.mark.model  # loads weights: `make check` leaves these to `make test`

NO_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory")


class TestFailures:
    async def test_a_bad_row_fails_alone(self, module: TextGeneration) -> None:
        alone = {prompt: ids(await write(module, prompt)) for prompt in PROMPTS}
        [*_, bad] = module.tokenizer("0")["input_ids"]
        passes = Passes(module)
        passes.fail = lambda read: ValueError("bad") if read[:, -1].eq(bad).any() else None
        told = await asyncio.gather(*(write(module, prompt) for prompt in PROMPTS), return_exceptions=True)
        for prompt, answer in zip(PROMPTS, told, strict=True):
            assert isinstance(answer, ValueError) if prompt == "0" else ids(answer) == alone[prompt]

    async def test_a_step_that_fails_takes_its_rows_and_no_more(self, module: TextGeneration) -> None:
        alone = ids(await write(module, "Hello! How"))
        passes = Passes(module)
        count = iter(range(99))
        passes.fail = lambda read: RuntimeError("broken") if read.shape[1] == 1 and next(count) == 3 else None
        calls = await in_turn(module, passes, (write(module, p) for p in PROMPTS[2:5]))
        told = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(answer) for answer in told] == ["broken"] * 3
        assert await idle(module)
        assert ids(await write(module, "Hello! How")) == alone

    async def test_an_error_ends_a_stream(self, module: TextGeneration) -> None:
        passes = Passes(module)
        passes.fail = lambda read: RuntimeError("broken") if len(passes.made) > 3 else None
        chunks, _ = await begun(module, "I")
        assert [(await anext(chunks)).index for _ in range(2)] == [2, 3]
        with pytest.raises(RuntimeError, match="broken"):
            await anext(chunks)

    @pytest.mark.parametrize("error", [StopIteration("odd"), SystemExit("panic")])
    async def test_no_error_stops_the_thread(self, module: TextGeneration, error: BaseException) -> None:
        passes = Passes(module)
        passes.fail = lambda read: error if len(passes.made) == 4 else None
        with pytest.raises(RuntimeError, match=r"odd|panic"):
            await write(module, "I")
        assert (await write(module, "I")).details.generated_tokens == 12

    async def test_a_tokenizer_s_panic_fails_alone(self, module: TextGeneration) -> None:
        alone = ids(await write(module, "Hello! How"))
        module.tokenizer.decode = lambda *args, **kwargs: {}["panic"]
        with pytest.raises(KeyError):
            await write(module, "Where is the sun?")
        del module.tokenizer.decode
        assert ids(await write(module, "Hello! How")) == alone

    async def test_when_memory_is_short_fewer_are_read_at_once(self, module: TextGeneration) -> None:
        alone = [ids(await write(module, prompt)) for prompt in PROMPTS]
        passes = Passes(module)
        no_memory = torch.cuda.OutOfMemoryError("CUDA out of memory")
        passes.fail = lambda read: no_memory if len(read) > 2 and read.shape[1] > 1 else None
        told = await asyncio.gather(*(write(module, prompt) for prompt in PROMPTS))
        assert [ids(answer) for answer in told] == alone

    async def test_and_in_the_order_in_which_they_came(self, module: TextGeneration) -> None:
        passes, read = Passes(module), []

        def short(ids: torch.Tensor) -> Exception | None:
            if ids.shape[1] > 1 and len(ids) <= 2:
                read.extend(ids[:, -1].tolist())
            return torch.cuda.OutOfMemoryError("CUDA out of memory") if len(ids) > 2 else None

        passes.fail = short
        inputs = [TextGenerationInput(text=text) for text in "ABCDEFG"]
        await module.run(inputs, TextGenerationParams(max_new_tokens=1))
        assert read == [module.tokenizer(text)["input_ids"][-1] for text in "ABCDEFG"]

    async def test_when_there_is_none_for_one_more_it_waits(self, module: TextGeneration) -> None:
        alone = ids(await write(module, "Hello! How"))
        passes = Passes(module)
        no_memory = torch.cuda.OutOfMemoryError("CUDA out of memory")
        passes.fail = lambda read: (
            no_memory if read.shape[1] > 1 and module.counters()["running"] > 1 else None
        )
        calls = (write(module, "I", max_new_tokens=50), write(module, "Hello! How"))
        runs, waits = await in_turn(module, passes, calls)
        assert (await runs).details.generated_tokens == 50
        assert ids(await waits) == alone
        in_vain = sum(one.new for one in passes.made) - 2
        assert in_vain == (2 if module.generator.engine.network.read_beside_step else 1)

    async def test_one_too_large_for_the_whole_memory_fails(self, module: TextGeneration) -> None:
        passes = Passes(module)
        passes.fail = lambda read: torch.cuda.OutOfMemoryError("CUDA out of memory")
        with pytest.raises(torch.cuda.OutOfMemoryError):
            await write(module, "Hello! How")
        assert len(passes.made) == 1


class TestShortMemory:
    """In the middle of answers: the younger ones leave the batch, and go on later as if they had not."""

    async def test_no_answer_is_lost(self, module: TextGeneration) -> None:
        wishes = [params | {"max_new_tokens": 9 + 5 * place} for place, params in enumerate(MIXED)]
        alone = [await write(module, p, **params) for p, params in zip(PROMPTS, wishes, strict=True)]
        wishes[0]["stop"] = [alone[0].generated_text[3:6]]
        alone[0] = await write(module, PROMPTS[0], **wishes[0])
        assert alone[0].details.finish_reason == "stop_sequence"
        before = module.counters()["generated_tokens"]
        passes = Passes(module)
        steps = iter(range(99))
        passes.fail = lambda read: (
            NO_MEMORY if read.shape[1] == 1 and len(read) > 2 and next(steps) > 2 else None
        )
        calls = (write(module, p, **params) for p, params in zip(PROMPTS, wishes, strict=True))
        told = await asyncio.gather(*await in_turn(module, passes, calls))
        assert next(steps) > 3
        for answer, same in zip(told, alone, strict=True):
            assert ids(answer) == ids(same)
            assert answer.generated_text == same.generated_text
            for name in ("finish_reason", "generated_tokens", "input_length", "seed"):
                assert getattr(answer.details, name) == getattr(same.details, name)
        made = module.counters()["generated_tokens"] - before
        assert made == sum(answer.details.generated_tokens for answer in told)

    async def test_a_stream_goes_on_where_it_was(self, module: TextGeneration) -> None:
        alone = [ids(await write(module, prompt, max_new_tokens=40)) for prompt in PROMPTS]
        passes = Passes(module, seconds=0.002)
        begins = [await begun(module, prompt) for prompt in PROMPTS]
        passes.fail = lambda read: NO_MEMORY if len(read) > 2 else None
        for (chunks, first), expected in zip(begins, alone, strict=True):
            told = [first, *[chunk async for chunk in chunks]]
            assert [chunk.token.id for chunk in told] == expected
            assert [chunk.index for chunk in told] == [*range(1, 41)]
        assert await idle(module)

    async def test_the_older_ones_run_on(self, module: TextGeneration) -> None:
        passes, ended = Passes(module, seconds=0.02), []

        async def read(place: int, chunks: Any) -> None:
            async for _ in chunks:
                pass
            ended.append(place)

        begins = [await begun(module, prompt) for prompt in PROMPTS[:4]]
        await until(module, running=4)
        passes.made.clear()
        passes.fail = lambda read: NO_MEMORY if len(read) > 1 else None
        passes.seconds = 0.0
        await asyncio.gather(*(read(place, chunks) for place, (chunks, _) in enumerate(begins)))
        assert ended == [0, 1, 2, 3]
        assert sum(one.new for one in passes.made if one.rows == 1) < 2 * 4, "once anew, and once in vain"

    async def test_what_is_chosen_from_takes_memory_too(
        self, module: TextGeneration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alone = [ids(await write(module, p, **params)) for p, params in zip(PROMPTS, MIXED, strict=True)]

        class Scarce(Chooser):
            def __call__(self, logits: torch.Tensor) -> Any:
                choices = super().__call__(logits)
                if len(logits) > 2:
                    raise NO_MEMORY
                return choices

        monkeypatch.setattr(running_batch, "Chooser", Scarce)
        told = await asyncio.gather(
            *(write(module, p, **params) for p, params in zip(PROMPTS, MIXED, strict=True))
        )
        assert [ids(answer) for answer in told] == alone

    async def test_of_those_that_came_together_the_older_stay(
        self, module: TextGeneration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also where the long ones among them are read after the others."""
        inputs = [TextGenerationInput(text=text) for text in ("I", "a" * 80, "Tom", "0")]
        params = TextGenerationParams(max_new_tokens=9, do_sample=False)
        alone = [(await module.run([input], params))[0] for input in inputs]
        stepped: list[list[int]] = []

        class Scarce(Chooser):
            def __call__(self, logits: torch.Tensor) -> Any:
                if self.rows is module.generator.engine.batch.rows:
                    stepped.append([row.number % len(inputs) for row in self.rows])
                    if len(logits) > 2:
                        raise NO_MEMORY
                return super().__call__(logits)

        monkeypatch.setattr(running_batch, "Chooser", Scarce)
        assert await module.run(inputs, params) == alone
        together, first, *_ = stepped
        assert sorted(together) == [0, 1, 2, 3]
        assert first == [0, 1]

    async def test_so_does_sorting_them_out(
        self, module: TextGeneration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lengths = range(9, 9 + 3 * len(PROMPTS), 3)
        alone = [ids(await write(module, p, max_new_tokens=n)) for p, n in zip(PROMPTS, lengths, strict=True)]
        network: Any = module.generator.engine.network
        keep, failed = network.keep, []

        def scarce(places: list[int]) -> None:
            if len(places) in {1, 2, 4} - {*failed}:
                failed.append(len(places))
                raise NO_MEMORY
            keep(places)

        monkeypatch.setattr(network, "keep", scarce)
        told = await asyncio.gather(
            *(write(module, p, max_new_tokens=n) for p, n in zip(PROMPTS, lengths, strict=True))
        )
        assert failed
        assert [ids(answer) for answer in told] == alone

    async def test_one_that_has_none_alone_fails_and_the_others_go_on(self, module: TextGeneration) -> None:
        alone = ids(await write(module, PROMPTS[1], max_new_tokens=40))
        passes = Passes(module, seconds=0.02)
        begins = [await begun(module, prompt) for prompt in PROMPTS[:2]]
        await until(module, running=2)
        fails = iter([True, True])
        passes.fail = lambda _: NO_MEMORY if next(fails, False) else None
        passes.seconds = 0.0
        (large, _), (small, first) = begins
        with pytest.raises(torch.cuda.OutOfMemoryError):
            [chunk async for chunk in large]
        assert [first.token.id, *[chunk.token.id async for chunk in small]] == alone

    async def test_as_many_as_before_run_again_after_a_while(self, module: TextGeneration) -> None:
        module.generator.limits = Batching(max_batch_size=8)
        passes = Passes(module)
        short: list[int] = []

        def fail(read: torch.Tensor) -> Exception | None:
            if short or read.shape != (8, 1):
                return None
            short.append(len(passes.made))
            return NO_MEMORY

        passes.fail = fail
        calls = (write(module, "I", max_new_tokens=6) for _ in range(80))
        await asyncio.gather(*await in_turn(module, passes, calls))
        rows = [one.rows for one in passes.made[short[0] :]]
        assert max(rows[:6]) <= 5, rows
        assert max(rows) == 8, rows


class TestLimits:
    async def test_no_more_rows_than_allowed(self, module: TextGeneration) -> None:
        passes = Passes(module)
        module.generator.limits = Batching(max_batch_size=2)
        await asyncio.gather(*await in_turn(module, passes, (write(module, prompt) for prompt in PROMPTS)))
        assert max(one.rows for one in passes.made) == 2
        module.generator.limits = Batching(max_batch_size=5)
        await asyncio.gather(*await in_turn(module, passes, (write(module, prompt) for prompt in PROMPTS)))
        assert max(one.rows for one in passes.made) == 5

    async def test_no_more_tokens_in_a_pass_than_allowed(self, module: TextGeneration) -> None:
        passes = Passes(module)
        module.generator.limits = Batching(max_batch_tokens=12)
        calls = (write(module, "a" * size) for size in (2, 3, 3, 3, 3, 5, 6, 30))
        await asyncio.gather(*await in_turn(module, passes, calls))
        read = [one for one in passes.made if one.new]
        assert all(one.new * one.columns <= 12 or one.new == 1 for one in read)
        assert max(one.columns for one in read) > 12, "a long one is read alone"
        assert max(one.new for one in read) > 1, read

    async def test_the_rows_together_keep_no_more_than_allowed(self, module: TextGeneration) -> None:
        module.generator.limits = Batching(max_batch_tokens=8)
        passes = Passes(module)
        calls = (write(module, "a" * 10, max_new_tokens=20) for _ in range(12))
        await asyncio.gather(*await in_turn(module, passes, calls))
        length = len(module.tokenizer("a" * 10)["input_ids"]) + 20
        assert max(one.rows for one in passes.made) == 16 * 8 // length

    async def test_a_long_one_leaves_the_others_their_room(self, module: TextGeneration) -> None:
        """Where rows are not padded to its length."""
        module.generator.limits = Batching(max_batch_tokens=8)
        passes, ended = Passes(module), []

        async def one(count: int) -> None:
            await write(module, "I", max_new_tokens=count)
            ended.append(count)

        await asyncio.gather(*await in_turn(module, passes, map(one, (90, 9, 9, 9, 9))))
        pads = module.generator.engine.network.pads
        assert ended == ([90, 9, 9, 9, 9] if pads else [9, 9, 9, 9, 90])

    async def test_room_is_given_for_what_is_there(
        self, module: TextGeneration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two that may each fill all of it run together until they have; then the younger waits."""
        monkeypatch.setattr(admission, "FORESEEN", 4)
        alone = [ids(await write(module, prompt, max_new_tokens=100)) for prompt in PROMPTS[:3]]
        module.generator.limits = Batching(max_batch_tokens=8)
        network: Any = module.generator.engine.network
        passes, kept, ended = Passes(module), [], []

        def note(_: torch.Tensor) -> None:
            lengths = network.lengths if network.pads else [one.length for one in network.rows]
            kept.append(len(lengths) * max(lengths, default=0) if network.pads else sum(lengths))

        async def one(place: int) -> None:
            told = ids(await write(module, PROMPTS[place], max_new_tokens=100))
            assert told == alone[place]
            ended.append(place)

        passes.fail = note
        await asyncio.gather(*await in_turn(module, passes, map(one, range(3))))
        assert max(one.rows for one in passes.made) == 3
        assert 100 < max(kept) <= 16 * 8
        assert ended == [0, 1, 2]

    async def test_the_oldest_goes_first(self, module: TextGeneration) -> None:
        module.generator.limits = Batching(max_batch_size=1)
        order: list[int] = []

        async def one(place: int) -> None:
            await write(module, PROMPTS[place], max_new_tokens=3)
            order.append(place)

        await asyncio.gather(*await in_turn(module, Passes(module), map(one, range(6))))
        assert order == [*range(6)]

    async def test_a_text_that_cannot_fit_is_refused_before_it_waits(self, module: TextGeneration) -> None:
        module.generator.limits = Batching(max_batch_tokens=1)
        with pytest.raises(InvalidInput, match="has room for 15"):
            await write(module, "It rains. " * 6, max_new_tokens=1)
        answer = await write(module, "I", max_new_tokens=99)
        assert answer.details.generated_tokens == 14
        assert answer.details.finish_reason == "length"

    async def test_a_token_that_the_model_does_not_know_is_refused(self, module: TextGeneration) -> None:
        module.generator.vocabulary = 10
        with pytest.raises(InvalidInput, match="does not know"):
            await write(module, "Hello")


class TestLoops:
    def test_any_loop_will_do(self, module: TextGeneration) -> None:
        first, second = (asyncio.run(write(module, "I")) for _ in range(2))
        assert first == second

    async def test_two_at_once(self, module: TextGeneration) -> None:
        alone = [ids(await write(module, prompt)) for prompt in PROMPTS]
        elsewhere = asyncio.to_thread(lambda: asyncio.run(write(module, PROMPTS[0])))
        here = asyncio.gather(*(write(module, prompt) for prompt in PROMPTS[1:]))
        assert [ids(answer) for answer in (await elsewhere, *await here)] == alone

    async def test_a_loop_that_ends_takes_its_rows_along(self, module: TextGeneration) -> None:
        Passes(module, seconds=0.02)
        loop = asyncio.new_event_loop()
        chunks = stream(module, "I", max_new_tokens=60)
        loop_thread = asyncio.to_thread(loop.run_until_complete, anext(chunks))
        await loop_thread
        loop.close()
        assert (await idle(module))["generated_tokens"] < 20

    async def test_closing_ends_the_thread_and_what_is_not_whole(self, module: TextGeneration) -> None:
        passes = Passes(module)
        passes.gate.clear()
        module.generator.limits = Batching(max_batch_size=1)
        threads = generating()
        told = asyncio.gather(
            *(write(module, prompt, max_new_tokens=60) for prompt in PROMPTS), return_exceptions=True
        )
        await until(module, running=1, waiting=5)
        [thread] = generating() - threads
        module.generator.close()
        passes.gate.set()
        assert {type(answer) for answer in await told} == {ModelNotReady}
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()
        assert await idle(module)
        with pytest.raises(ModelNotReady):
            await write(module, "I")
