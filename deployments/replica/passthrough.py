"""The scheduler of modules that schedule their own batches, such as text generation."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from deployments.errors import count_failures
from deployments.limits import Batching
from deployments.results import InferenceResults, Usage
from deployments.task import Module


class PassthroughScheduler:
    """Passes inputs straight to a module that schedules its own batches, with the interface of `Batcher`.

    `failures` counts inputs that failed with an unexpected error since the last success.
    """

    def __init__(self, module: Module, limits: Batching) -> None:
        self._module = module
        self.limits = limits
        self.failures = 0

    @property
    def limits(self) -> Batching:
        return self._limits

    @limits.setter
    def limits(self, limits: Batching) -> None:
        self._limits = limits
        self._module.limit(limits)

    def tune(self, examples: list[Any]) -> None:
        """Run the examples. Raises what the module raises."""
        with ThreadPoolExecutor(1) as thread:  # the current thread may have a running loop
            running = self.submit(examples, self._module.task.params())
            results = thread.submit(asyncio.run, running).result()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def submit(
        self, inputs: list[Any], params: Any, sizes: list[int] | None = None
    ) -> InferenceResults:
        """Return one output, or the exception it failed with, per input. Cancelling ends the work."""
        start = time.perf_counter()
        runs = (self._module.run([input], params) for input in inputs)
        outcomes = await asyncio.gather(*runs, return_exceptions=True)
        results = [outcome if isinstance(outcome, BaseException) else outcome[0] for outcome in outcomes]
        for result in results:
            self.failures = count_failures(result, self.failures)
        usage = Usage(inference_s=time.perf_counter() - start, batches=[len(inputs)])
        return InferenceResults(results, usage)
