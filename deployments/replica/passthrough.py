"""What stands in the scheduler's place where a module batches by itself."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from deployments.errors import count_failures
from deployments.limits import Batching
from deployments.results import InferenceResults, Usage
from deployments.task import Module


class Unbatched:
    """Stands in the `Batcher`'s place for a module that batches by itself.

    `failures` counts inputs that ended in an unforeseen error since the last success.
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
        """Answer the examples. Raises what the module raises."""
        with ThreadPoolExecutor(1) as thread:  # this one may have a running loop
            answering = self.submit(examples, self._module.task.params())
            answers = thread.submit(asyncio.run, answering).result()
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer

    async def submit(
        self, inputs: list[Any], params: Any, sizes: list[int] | None = None
    ) -> InferenceResults:
        """One output, or the exception it failed with, per input. Cancelling ends the work."""
        start = time.perf_counter()
        each = (self._module.run([input], params) for input in inputs)
        told = await asyncio.gather(*each, return_exceptions=True)
        answers = [one if isinstance(one, BaseException) else one[0] for one in told]
        for answer in answers:
            self.failures = count_failures(answer, self.failures)
        usage = Usage(inference_s=time.perf_counter() - start, batches=[len(inputs)])
        return InferenceResults(answers, usage)
