"""Run the in-process baseline: the same module as a replica's, called directly, without a server.

Its batches are perfect: the whole workload is known beforehand, sorted by length, cut by a budget of tokens.
The processes run this file. They import nothing of Ray and make the workload when a call needs it: their time
to start and their memory are baselines as well.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from statistics import median_high
from typing import Any

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WAYS = ((1, CORES), (CORES, 1)) if CORES > 1 else ((1, 1),)  # processes, and threads of each
BUDGETS = (2, 8, 32, 128, 512)  # of one batch, in inputs of the median cost; at most the share of a process
TRIALS = 4  # the largest budgets: small batches are slow where there are many inputs, and take longest to try
TRIAL_S, NEW_TOKENS = 1.5, 32


class Processes:
    """Processes with one model each that work at the same time, on a share of the workload each.

    The constructor returns when each has one response. `options`: `worker="Generate"`, or those of `Module`.
    """

    def __init__(self, folder: Path, count: int, processes: int = 1, threads: int = 1, **options: str):
        self.title = f"{processes} process{'es' * (processes > 1)} of {threads} thread{'s' * (threads > 1)}"
        self.budget = BUDGETS[0]
        self._share = max(1, count // processes)
        self._workers: list[Any] = []
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        pipes |= {"env": environment, "cwd": Path(__file__).parents[1]}
        for index in range(processes):
            arguments = {"folder": str(folder), "count": count, "index": index, "of": processes, **options}
            command = [sys.executable, "-m", "benchmarks.baseline", json.dumps(arguments)]
            self._workers.append(subprocess.Popen(command, **pipes))
        self._call(self._workers, "")  # wait for the first response of each

    def rate(self, seconds: float) -> float:
        """Return the outputs per second of all processes together, in batches of at most `budget`."""
        return float(sum(self._call(self._workers, "rate", seconds=seconds, budget=self.budget)))

    def first(self, method: str, **arguments: Any) -> Any:
        """Call a method of the first worker."""
        return self._call(self._workers[:1], method, **arguments)[0]

    def choose_budget(self) -> None:
        """Measure the budgets, and take the fastest."""
        rates = {}
        for self.budget in sorted({min(budget, self._share) for budget in BUDGETS})[-TRIALS:]:
            rates[self.budget] = self.rate(TRIAL_S)
        self.budget = max(rates, key=rates.__getitem__)

    def close(self) -> None:
        for worker in self._workers:
            worker.stdin.close()
        for worker in self._workers:
            worker.wait(20)

    def _call(self, workers: Sequence[Any], method: str, **arguments: Any) -> list[Any]:
        for worker in workers if method else ():
            print(json.dumps([method, arguments]), file=worker.stdin, flush=True)
        lines = [worker.stdout.readline() for worker in workers]
        if not all(lines):
            raise RuntimeError("a baseline process ended; its error is above")
        return [json.loads(line) for line in lines]


@contextmanager
def ways(kind: str, **options: Any) -> Iterator[list[Processes]]:
    """Start one process of many threads, and many processes of one, each with its fastest budget."""
    from benchmarks.workload import COUNTS, checkpoint

    with ExitStack() as stack:
        started = []
        for way in WAYS:
            processes = Processes(checkpoint(kind), COUNTS[kind], *way, **options)
            started.append(stack.enter_context(closing(processes)))
            processes.choose_budget()
        yield started


class Module:
    """A worker with Roster's module for a folder: number `index` of `of`, for its share of `count` inputs."""

    def __init__(
        self, folder: str, count: int, index: int, of: int, engine: str = "torch", dtype: str = "auto"
    ) -> None:
        import yaml

        from deployments.config.model_config import ModelConfig
        from deployments.config.yaml_file import CONFIG

        # Not `read`: it imports Ray Serve, to check the options of the deployment.
        config = ModelConfig.model_validate(yaml.safe_load((Path(folder) / CONFIG).read_text()))
        self.module = config.module()
        self.module.load(replace(config.checkpoint(Path(folder)), engine=engine, dtype=dtype))
        self.task, self.params = self.module.task, self.module.task.params()
        self.count, self.index, self.of = count, index, of
        self.run([self.task.input.model_validate(self.task.examples()[0])])

    @cached_property
    def inputs(self) -> list[Any]:
        from benchmarks import workload

        name = next(iter(self.task.input.model_fields))
        make: Any = workload.photographs if name == "image" else workload.texts
        return [self.task.input.model_validate({name: value}) for value in make(self.count)]

    @cached_property
    def by_cost(self) -> list[tuple[int, Any]]:
        costs = [encoded.cost for encoded in self.module.encode(self.inputs, self.params)]
        return sorted(zip(costs, self.inputs, strict=True), key=lambda pair: pair[0])

    def run(self, inputs: list[Any]) -> list[Any]:
        encoded = self.module.encode(inputs, self.params)
        return list(self.module.run([one.input for one in encoded], self.params))

    def rate(self, seconds: float, budget: int) -> float:
        """Return outputs per second over whole passes of a share with the same mixture as the workload."""
        max_cost = budget * median_high(cost for cost, _ in self.by_cost)
        batches: list[list[Any]] = [[]]
        for cost, one in self.by_cost[self.index :: self.of]:
            if batches[-1] and cost * (len(batches[-1]) + 1) > max_cost:
                batches.append([])
            batches[-1].append(one)
        self.run(batches[-1])
        return _rate(lambda: sum(len(self.run(batch)) for batch in batches), seconds)

    def single_p50(self, seconds: float) -> float:
        """Return the median time, in seconds, of one input alone."""
        inputs, begin, times = self.inputs, time.perf_counter(), list[float]()
        while (before := time.perf_counter()) - begin < seconds:
            self.run([inputs[len(times) % len(inputs)]])
            times.append(time.perf_counter() - before)
        return median_high(times)

    def responses(self, count: int) -> list[Any]:
        """Return the outputs for the first `count` inputs, each alone."""
        outputs = [self.run([one])[0].model_dump(mode="json") for one in self.inputs[:count]]
        return [next(value for value in output.values() if value is not None) for output in outputs]

    def memory(self) -> dict[str, int]:
        """Return the memory of this process in bytes, with shared pages ("rss") and with a share of them."""
        import psutil

        memory = psutil.Process().memory_full_info()
        return {"rss": memory.rss, "pss": getattr(memory, "pss", memory.rss)}


class Generate:
    """A worker with transformers' `generate`, one prompt at a time, greedy, `NEW_TOKENS` tokens for each."""

    def __init__(self, folder: str, count: int, index: int, of: int) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from benchmarks import workload

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.prompts = workload.texts(count)
        self.run(self.prompts[0])

    def run(self, prompt: str) -> list[int]:
        import torch

        encoded = self.tokenizer(prompt, return_tensors="pt")
        options = {"do_sample": False, "pad_token_id": self.tokenizer.pad_token_id}
        with torch.inference_mode():
            ids = self.model.generate(**encoded, max_new_tokens=NEW_TOKENS, **options)
        return list(ids[0, encoded["input_ids"].shape[1] :].tolist())

    def rate(self, seconds: float, budget: int) -> float:
        return _rate(lambda: sum(len(self.run(prompt)) for prompt in self.prompts[:4]), seconds)

    def responses(self, count: int) -> list[str]:
        return [self.tokenizer.decode(self.run(prompt)) for prompt in self.prompts[:count]]


def _rate(work: Callable[[], int], seconds: float) -> float:
    begin, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begin) < seconds or not done:
        done += work()
    return done / elapsed


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    worker = {"Module": Module, "Generate": Generate}[options.pop("worker", "Module")](**options)
    print("null", flush=True)
    for line in sys.stdin:
        method, arguments = json.loads(line)
        print(json.dumps(getattr(worker, method)(**arguments)), flush=True)
