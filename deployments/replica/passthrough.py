"""The scheduler of modules that batch by themselves: it passes inputs on at once."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from deployments.errors import failures_with
from deployments.limits import Batching
from deployments.results import Answers, Usage
from deployments.task import Module


class PassthroughScheduler:
    """Replaces the `Batcher` for a module that batches by itself.

    `failures` counts inputs that ended in an unforeseen error since the last success.
    """

    def __init__(self, module: Module, limits: Batching) -> None:
        self._module = module
        self.limits = limits
        self.failures = 0

    @property
    def limits(self) -> Batching:
        """The limits of the module's batches."""
        return self._limits

    @limits.setter
    def limits(self, limits: Batching) -> None:
        self._limits = limits
        self._module.limit(limits)

    def tune(self, examples: list[Any]) -> None:
        """Answer the examples. Raises what the module raises."""
        with ThreadPoolExecutor(1) as thread:  # the current one may have a running loop
            submitted = self.submit(examples, self._module.task.params())
            results = thread.submit(asyncio.run, submitted).result()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def submit(self, inputs: list[Any], params: Any, sizes: list[int] | None = None) -> Answers:
        """Return one output, or an exception, per input. Cancelling ends the work."""
        started_at = time.perf_counter()
        runs = (self._module.run([input], params) for input in inputs)
        outputs = await asyncio.gather(*runs, return_exceptions=True)
        results = [output if isinstance(output, BaseException) else output[0] for output in outputs]
        for result in results:
            self.failures = failures_with(result, self.failures)
        usage = Usage(computed_s=time.perf_counter() - started_at, batches=[len(inputs)])
        return Answers(results, usage)
