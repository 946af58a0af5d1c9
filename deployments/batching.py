"""The replica's scheduler: what waits together runs together; nothing waits for company.

An idle model gets a request at once. While a batch runs, requests queue; the next batch starts with the
oldest of them and is filled with those that may share it: equal parameters, nearest in length, within the
budget of items and tokens. The oldest always goes first, so none starves.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from deployments.config import Batching
from deployments.errors import InferenceError
from deployments.schema import Schema, words

CHARACTERS_PER_TOKEN = 4
MOST_COMPARED = 4096  # of those that wait: choosing among more would keep the event loop from its work
Run = Callable[[list[Any], Any], list[Any]]


@dataclass
class Item:
    """One input that waits for its output; `tokens` is an estimate, made before the tokenizer sees it."""

    input: Schema
    params: Schema
    tokens: int
    answer: "asyncio.Future[Any]"


class Batcher:
    """Runs `run(inputs, params)` in one thread, in batches made of concurrent `submit`s.

    `failures` counts batches of one that ended in an unforeseen error since the last success.
    """

    def __init__(self, run: Run, limits: Batching) -> None:
        self.limits = limits
        self.failures = 0
        self._run = run
        self._waiting: deque[Item] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, inputs: list[Any], params: Any) -> list[Any]:
        """One output, or the exception it failed with, per input. Cancelling takes them off the queue."""
        loop = asyncio.get_running_loop()
        items = [Item(input, params, estimate_tokens(input), loop.create_future()) for input in inputs]
        self._waiting.extend(items)
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        try:
            return list(await asyncio.gather(*(item.answer for item in items), return_exceptions=True))
        finally:
            for item in items:
                item.answer.cancel()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            inputs, params = [item.input for item in batch], batch[0].params
            results = await loop.run_in_executor(self._thread, self._results, inputs, params)
            for item, result in zip(batch, results, strict=True):
                if not item.answer.done():
                    _settle(item.answer, result)

    def _next_batch(self) -> list[Item]:
        while self._waiting and self._waiting[0].answer.done():
            self._waiting.popleft()
        if not self._waiting:
            return []
        oldest = self._waiting[0]
        batch = self._fill(oldest)
        chosen = {id(item) for item in batch}
        self._waiting = deque(item for item in self._waiting if id(item) not in chosen)
        return batch

    def _fill(self, oldest: Item) -> list[Item]:
        company = [
            i
            for i in islice(self._waiting, MOST_COMPARED)
            if i is not oldest and not i.answer.done() and i.params == oldest.params
        ]
        company.sort(key=lambda item: abs(item.tokens - oldest.tokens))
        batch, longest = [oldest], oldest.tokens
        for item in company:
            longest = max(longest, item.tokens)
            if (
                len(batch) >= self.limits.max_batch_size
                or longest * (len(batch) + 1) > self.limits.max_batch_tokens
            ):
                break
            batch.append(item)
        return batch

    def _results(self, inputs: list[Any], params: Any) -> list[Any]:
        """Outputs or exceptions. A batch that fails is halved, so that a bad item fails alone."""
        try:
            outputs = list(self._run(inputs, params))
            if len(outputs) != len(inputs):
                raise RuntimeError(f"the module gave {len(outputs)} outputs for {len(inputs)} inputs")
        except Exception as error:
            if len(inputs) == 1:
                self.failures += not isinstance(error, InferenceError)
                return [error]
            half = len(inputs) // 2
            return self._results(inputs[:half], params) + self._results(inputs[half:], params)
        self.failures = 0
        return outputs


def estimate_tokens(input: Schema) -> int:
    """About how many tokens an input's texts have; 1 for one without."""
    texts = _texts(type(input))
    return 1 + sum(_length(getattr(input, name)) for name in texts) // CHARACTERS_PER_TOKEN


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, (list, tuple)):
        return sum(_length(getattr(part, "content", part)) for part in value)
    return 0


@lru_cache
def _texts(schema: type[Schema]) -> tuple[str, ...]:
    return tuple(name for name, word in words(schema).items() if word in ("text", "texts", "conversation"))


def _settle(answer: "asyncio.Future[Any]", result: Any) -> None:
    if isinstance(result, BaseException):
        answer.set_exception(result)
    else:
        answer.set_result(result)
