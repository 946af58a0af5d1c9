"""vLLM as the engine: it batches and makes the tokens, in processes of its own; answers are told as ever."""

import asyncio
import threading
import uuid
from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from deployments.engines.checkpoint import Checkpoint, max_length
from deployments.engines.device import MEMORY, assigned_gpus
from deployments.errors import InvalidInput, ModelNotReady
from deployments.generation.engine import Engine
from deployments.generation.generation_rules import rules
from deployments.generation.sequence import News, Row
from deployments.generation.settings import Choice

if TYPE_CHECKING:
    import torch


def load(checkpoint: Checkpoint, tokenizer: Any, _: Any) -> "tuple[Any, Vllm, int]":
    """Load a language model into vLLM, as `generators` describes it. Raises `ModelNotReady`."""
    from transformers import AutoModelForCausalLM

    model = checkpoint.outline(AutoModelForCausalLM)
    if rules(model.generation_config, 0, (), "cpu"):
        raise ModelNotReady(f"{checkpoint.name!r} has rules for its answers that vLLM does not know")
    engine = Vllm(checkpoint)
    return model.to(engine.dtype), engine, min(max_length(tokenizer, model.config), engine.room)


class Vllm(Engine):
    """Runs rows in vLLM's asynchronous engine, on an event loop of its own. Raises `ModelNotReady`.

    What the checkpoint's config says of it are vLLM's engine arguments, by their own names; memory and
    tensor parallelism are by default as the replica's share of GPUs is.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        try:
            from vllm import AsyncEngineArgs
        except ImportError as absent:
            raise ModelNotReady(f"`engine.name` is vllm, which is not installed: {absent}") from absent

        self._tasks: dict[Row, asyncio.Task[None]] = {}
        self._tokens = 0
        self._closed = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True).start()
        try:
            arguments = AsyncEngineArgs(**{**_arguments(checkpoint), **checkpoint.engine_options})
            self._engine = asyncio.run_coroutine_threadsafe(_engine(arguments), self._loop).result()
        except Exception as refused:
            raise ModelNotReady(f"vLLM does not load {checkpoint.name!r}: {refused}") from refused

    @property
    def dtype(self) -> "torch.dtype":
        """Of the weights, as vLLM has loaded them."""
        dtype: torch.dtype = self._engine.model_config.dtype
        return dtype

    @property
    def room(self) -> int:
        return int(self._engine.model_config.max_model_len)

    def begin(self, rows: Sequence[Row]) -> None:
        if self._closed:
            raise ModelNotReady("the model is being replaced")
        for row in rows:
            asked = _sampling_params(row)
            self._loop.call_soon_threadsafe(self._begin, row, asked)

    def drop(self, rows: Sequence[Row]) -> None:
        for row in rows:
            row.ended = True
            self._loop.call_soon_threadsafe(self._cancel, row)

    def counters(self) -> dict[str, int]:
        return {"generated_tokens": self._tokens, "running": len(self._tasks)}

    def close(self) -> None:
        self._closed = True
        self._loop.call_soon_threadsafe(self._close)

    def _begin(self, row: Row, asked: Any) -> None:
        if not row.ended:
            self._tasks[row] = task = self._loop.create_task(self._run(row, asked))
            # Not in `_run`, of which nothing runs in a task that is cancelled before its first step.
            task.add_done_callback(lambda _: self._tasks.pop(row))

    def _cancel(self, row: Row) -> None:
        if task := self._tasks.get(row):
            task.cancel()

    def _close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._engine.shutdown()
        for row in self._tasks:
            _tell(row, ModelNotReady("the model is being replaced"))

    async def _run(self, row: Row, asked: Any) -> None:
        try:
            await self._write(row, asked)
            _tell(row, None if row.ended else RuntimeError("vLLM ended an answer that was not whole"))
        except Exception as error:
            _tell(row, error)

    async def _write(self, row: Row, asked: Any) -> None:
        """Give the row its tokens. Leaving early, as a stop string does, ends vLLM's work on it."""
        prompt = {"prompt_token_ids": row.prompt}
        async with aclosing(self._engine.generate(prompt, asked, request_id=uuid.uuid4().hex)) as outputs:
            async for output in outputs:
                [told] = output.outputs
                for token, logprobs in zip(told.token_ids, told.logprobs, strict=True):
                    self._tokens += 1
                    if clear := row.push(_choice(token, logprobs, row.wishes.top_n_tokens)):
                        _tell(row, clear)
                    if row.ended:
                        return


async def _engine(arguments: Any) -> Any:
    """Inside the loop that it is to run on."""
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(arguments)


def _arguments(checkpoint: Checkpoint) -> dict[str, Any]:
    given = {
        "model": checkpoint.name,
        "revision": checkpoint.revision,
        "dtype": checkpoint.dtype,
        "trust_remote_code": checkpoint.trust_remote_code,
        "load_format": "auto" if checkpoint.pickle else "safetensors",
    }
    gpus = assigned_gpus()
    if 0 < gpus < 1:
        return given | {"gpu_memory_utilization": MEMORY * gpus}
    return given | {"tensor_parallel_size": max(1, int(gpus))}


def _sampling_params(row: Row) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    wishes, settings = row.wishes, row.wishes.settings
    if settings.get("typical_p", 1.0) < 1.0:
        raise InvalidInput("`typical_p` is beyond vLLM, which runs this model", field="typical_p")
    return SamplingParams(
        temperature=settings.get("temperature", 1.0) if settings else 0.0,
        top_k=settings.get("top_k") or 0,
        top_p=settings.get("top_p", 1.0),
        seed=wishes.seed % 2**63 if settings else None,
        repetition_penalty=wishes.repetition_penalty,
        frequency_penalty=wishes.frequency_penalty,
        presence_penalty=wishes.presence_penalty,
        max_tokens=row.answer.budget,
        stop_token_ids=sorted(row.answer.ends),
        logprobs=wishes.top_n_tokens,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def _choice(token: int, logprobs: Any, likeliest: int) -> Choice:
    best = sorted(((id, one.logprob) for id, one in logprobs.items()), key=lambda pair: -pair[1])
    return Choice(token, logprobs[token].logprob, best[:likeliest])


def _tell(row: Row, news: News) -> None:
    if row.loop.is_closed():
        row.ended = True
    else:
        row.loop.call_soon_threadsafe(row.hear, news)
