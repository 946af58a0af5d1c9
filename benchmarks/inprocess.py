"""The yardstick: the same module as a replica's, called directly in processes of its own, without a server.

Batches are perfect: all of the workload is known beforehand, sorted by length and cut by a budget of tokens.
`python -m benchmarks.inprocess FOLDER COUNT ENGINE DTYPE` is one such process: a line of JSON in, one out.
It imports what the module needs, nothing of Ray, and makes the workload when it is first asked for work: the
time that it takes to start, and its memory, are yardsticks as well.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from benchmarks.load import percentile

ROOT = Path(__file__).parents[1]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SETTINGS = ((1, CORES), (CORES, 1)) if CORES > 1 else ((1, 1),)  # processes, and threads of each
BUDGETS = (2, 8, 32, 128, 512)  # of one batch, in inputs of the median cost, as far as there are so many
TRIED = 4  # of these: with much to do, small batches are slowest, and take longest to try


class Processes:
    """Some processes with the same model, that work at the same time; `budget` is that of their batches.

    `module` is what each of them runs, with the folder, how much of the workload it knows, the engine and the
    dtype. They have answered one input when they are there.
    """

    def __init__(
        self,
        folder: Path,
        count: int,
        processes: int,
        threads: int,
        engine: str = "torch",
        dtype: str = "auto",
        module: str = "benchmarks.inprocess",
    ) -> None:
        self.title = f"{processes} process{'es' * (processes > 1)} of {threads} thread{'s' * (threads > 1)}"
        self.budget = BUDGETS[0]
        self._share = max(1, count // processes)
        command = [sys.executable, "-m", module, str(folder), str(count), engine, dtype]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        self._workers = [
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                cwd=ROOT,
            )
            for _ in range(processes)
        ]
        self._hear()

    def rate(self, seconds: float) -> float:
        """Items per second of all processes together, in batches of at most `budget`."""
        share = len(self._workers)
        for place, worker in enumerate(self._workers):
            self._tell(worker, do="rate", seconds=seconds, budget=self.budget, place=place, share=share)
        return float(sum(answer["rate"] for answer in self._hear()))

    def lone_p50(self, seconds: float) -> float:
        """The median time, in seconds, of one input alone in one of the processes."""
        return float(self._ask(do="lone", seconds=seconds)["p50"])

    def answers(self, count: int) -> list[Any]:
        """What the module makes of the first few inputs, each alone."""
        return list(self._ask(do="answers", count=count)["answers"])

    def memory(self) -> dict[str, int]:
        """One process's memory in bytes: "rss", and "pss" where shared pages are divided."""
        return dict(self._ask(do="memory"))

    def choose_budget(self, seconds: float) -> None:
        """Take the budget that is fastest here, of those that a process's share of the workload fills."""
        rates = {}
        for self.budget in sorted({min(budget, self._share) for budget in BUDGETS})[-TRIED:]:
            rates[self.budget] = self.rate(seconds)
        self.budget = max(rates, key=rates.__getitem__)

    def close(self) -> None:
        for worker in self._workers:
            assert worker.stdin
            worker.stdin.close()
        for worker in self._workers:
            worker.wait(20)

    def _ask(self, **command: Any) -> dict[str, Any]:
        self._tell(self._workers[0], **command)
        return self._hear(self._workers[:1])[0]

    def _tell(self, worker: "subprocess.Popen[bytes]", **command: Any) -> None:
        assert worker.stdin
        worker.stdin.write(json.dumps(command).encode() + b"\n")
        worker.stdin.flush()

    def _hear(self, workers: "Sequence[subprocess.Popen[bytes]] | None" = None) -> list[dict[str, Any]]:
        lines = [worker.stdout.readline() for worker in workers or self._workers if worker.stdout]
        if not all(lines):
            raise RuntimeError("an in-process yardstick ended; its error is above")
        return [json.loads(line) for line in lines]


class Yardstick:
    """Several ways to run the module; each time it is the best of them that counts, and is noted."""

    def __init__(self, tried: Sequence[Processes]) -> None:
        self._tried = tried
        self.fastest = self.quickest = tried[0]

    def rate(self, seconds: float) -> float:
        """Items per second over all of the workload; each way takes some `seconds`."""
        rates = {one: one.rate(seconds) for one in self._tried}
        self.fastest = max(rates, key=rates.__getitem__)
        return rates[self.fastest]

    def lone_p50(self, seconds: float) -> float:
        """The median time, in seconds, of one input alone; each way takes some `seconds`."""
        alone = {one: one.lone_p50(seconds) for one in self._tried}
        self.quickest = min(alone, key=alone.__getitem__)
        return alone[self.quickest]


@contextmanager
def yardstick(
    folder: Path, count: int, seconds: float, engine: str = "torch", dtype: str = "auto"
) -> Iterator[Yardstick]:
    """Many threads, and many processes, each with its best budget: to find it takes some times `seconds`."""
    with ExitStack() as stack:
        tried = []
        for processes, threads in SETTINGS:
            tried.append(Processes(folder, count, processes, threads, engine, dtype))
            stack.callback(tried[-1].close)
            tried[-1].choose_budget(seconds)
        yield Yardstick(tried)


@cache
def computes_in(dtype: str) -> bool:
    """Whether this processor does, as Roster judges it. Another process is asked: this one has no torch."""
    name = "cpu_supports_dtype"
    code = f"from deployments.engines.checkpoint import {name}; print({name}('torch.{dtype}'))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return told.stdout.strip() == "True"


class _Worker:
    def __init__(self, folder: Path, count: int, engine: str, dtype: str) -> None:
        import yaml

        from deployments.config.model_config import ModelConfig
        from deployments.config.yaml_file import CONFIG

        # Not `config.read`: it holds what a config says of the deployment to Ray Serve's own schemas.
        config = ModelConfig.model_validate(yaml.safe_load((folder / CONFIG).read_text()))
        self.module = config.module()
        self.module.load(replace(config.checkpoint(folder), engine=engine, dtype=dtype))
        self.task = self.module.task
        self.params = self.task.params()
        self.count = count
        self.answer([self.task.input.model_validate(self.task.examples()[0])])

    @cached_property
    def inputs(self) -> list[Any]:
        from benchmarks import texts

        name = next(iter(self.task.input.model_fields))
        make = texts.photographs if name == "image" else texts.texts
        values: Sequence[Any] = make(self.count)
        return [self.task.input.model_validate({name: value}) for value in values]

    @cached_property
    def sorted(self) -> list[tuple[int, Any]]:
        """The inputs, each with its cost, by their costs."""
        costs = [one.cost for one in self.module.encode(self.inputs, self.params)]
        return sorted(zip(costs, self.inputs, strict=True), key=lambda pair: pair[0])

    def answer(self, inputs: list[Any]) -> list[Any]:
        encoded = self.module.encode(inputs, self.params)
        return list(self.module.run([one.input for one in encoded], self.params))

    def rate(self, seconds: float, budget: int, place: int, share: int) -> dict[str, float]:
        """Items per second over whole rounds of this process's share, which is as mixed as the workload."""
        batches = self._batches(self.sorted[place::share], budget)
        self.answer(batches[-1])
        begin, done = time.perf_counter(), 0
        while (took := time.perf_counter() - begin) < seconds or not done:
            for batch in batches:
                done += len(self.answer(batch))
        return {"rate": done / took}

    def lone(self, seconds: float) -> dict[str, float]:
        inputs = self.inputs
        begin = time.perf_counter()
        took: list[float] = []
        while time.perf_counter() - begin < seconds:
            before = time.perf_counter()
            self.answer([inputs[len(took) % len(inputs)]])
            took.append(time.perf_counter() - before)
        return {"p50": percentile(took, 50)}

    def answers(self, count: int) -> dict[str, Any]:
        told = [self.answer([one])[0].model_dump(mode="json") for one in self.inputs[:count]]
        return {"answers": [next(value for value in one.values() if value is not None) for one in told]}

    def memory(self) -> dict[str, int]:
        import psutil

        memory = psutil.Process().memory_full_info()
        return {"rss": memory.rss, "pss": getattr(memory, "pss", memory.rss)}

    def _batches(self, inputs: Sequence[tuple[int, Any]], budget: int) -> list[list[Any]]:
        most = budget * percentile([cost for cost, _ in self.sorted], 50)
        batches: list[list[Any]] = [[]]
        for cost, one in inputs:
            if batches[-1] and cost * (len(batches[-1]) + 1) > most:
                batches.append([])
            batches[-1].append(one)
        return batches


def obey(worker: Any) -> None:
    """Call the worker's methods as lines of JSON ask for, until the input ends."""
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        command = json.loads(line)
        sys.stdout.write(json.dumps(getattr(worker, command.pop("do"))(**command)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    obey(_Worker(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
