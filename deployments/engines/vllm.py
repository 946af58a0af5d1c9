"""vLLM as the engine: it batches and samples in separate processes, and Roster decodes its tokens."""

import asyncio
import threading
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from deployments.engines.checkpoint import Checkpoint
from deployments.engines.device import GPU_MEMORY_SHARE, assigned_gpus
from deployments.engines.positions import max_length
from deployments.errors import InvalidInput, ModelNotReady
from deployments.generation.engine import Engine
from deployments.generation.generation_rules import generation_rules
from deployments.generation.sequence import Sequence, Update
from deployments.generation.settings import SampledToken

if TYPE_CHECKING:
    import torch


def load(checkpoint: Checkpoint, tokenizer: Any, _: Any) -> "tuple[Any, Vllm, int]":
    """Load a language model into vLLM; `generators` describes the result. Raises `ModelNotReady`."""
    from transformers import AutoModelForCausalLM

    model = checkpoint.meta_model(AutoModelForCausalLM)
    if generation_rules(model.generation_config, 0, (), "cpu"):
        raise ModelNotReady(
            f"{checkpoint.name!r} has token rules in its generation config that vLLM does not support"
        )
    engine = Vllm(checkpoint)
    longest = min(max_length(tokenizer, model), engine.max_context_tokens)
    return model.to(engine.dtype), engine, longest


class Vllm(Engine):
    """Runs sequences in vLLM's asynchronous engine, on a separate event loop. Raises `ModelNotReady`.

    The config's engine options are vLLM's engine arguments of the same names. The replica's share of GPUs
    sets the defaults of memory and tensor parallelism.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        try:
            from vllm import AsyncEngineArgs
        except ImportError as error:
            raise ModelNotReady(f"`engine.name` is vllm, which is not installed: {error}") from error

        self._tasks: dict[Sequence, asyncio.Task[None]] = {}
        self._tokens = 0
        self._closed = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True).start()
        try:
            arguments = AsyncEngineArgs(**{**_default_arguments(checkpoint), **checkpoint.engine_options})
            created = asyncio.run_coroutine_threadsafe(_create_engine(arguments), self._loop)
            self._engine = created.result()
        except Exception as error:
            raise ModelNotReady(f"vLLM does not load {checkpoint.name!r}: {error}") from error

    @property
    def dtype(self) -> "torch.dtype":
        """The dtype of the weights as vLLM loaded them."""
        dtype: torch.dtype = self._engine.model_config.dtype
        return dtype

    @property
    def max_context_tokens(self) -> int:
        return int(self._engine.model_config.max_model_len)

    def submit(self, sequences: list[Sequence]) -> None:
        if self._closed:
            raise ModelNotReady("the model is being replaced")
        for sequence in sequences:
            params = _sampling_params(sequence)
            self._loop.call_soon_threadsafe(self._start, sequence, params)

    def abort(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            sequence.finished = True
            self._loop.call_soon_threadsafe(self._cancel, sequence)

    def counters(self) -> dict[str, int]:
        return {"generated_tokens": self._tokens, "running": len(self._tasks)}

    def close(self) -> None:
        self._closed = True
        self._loop.call_soon_threadsafe(self._close)

    def _start(self, sequence: Sequence, params: Any) -> None:
        if not sequence.finished:
            self._tasks[sequence] = task = self._loop.create_task(self._run(sequence, params))
            # Not in `_run`: a task that is cancelled before its first step runs none of it.
            task.add_done_callback(lambda _: self._tasks.pop(sequence))

    def _cancel(self, sequence: Sequence) -> None:
        if task := self._tasks.get(sequence):
            task.cancel()

    def _close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._engine.shutdown()
        for sequence in self._tasks:
            _notify(sequence, ModelNotReady("the model is being replaced"))

    async def _run(self, sequence: Sequence, params: Any) -> None:
        try:
            await self._generate(sequence, params)
            unfinished = RuntimeError("vLLM stopped before the output was finished")
            _notify(sequence, None if sequence.finished else unfinished)
        except Exception as error:
            _notify(sequence, error)

    async def _generate(self, sequence: Sequence, params: Any) -> None:
        """Append vLLM's tokens to the sequence. Returning early, at a stop string, aborts vLLM's request."""
        prompt = {"prompt_token_ids": sequence.prompt}
        async with aclosing(self._engine.generate(prompt, params, request_id=uuid.uuid4().hex)) as outputs:
            async for output in outputs:
                [delta] = output.outputs
                for token_id, logprobs in zip(delta.token_ids, delta.logprobs, strict=True):
                    self._tokens += 1
                    token = _sampled_token(token_id, logprobs, sequence.settings.top_n_tokens)
                    if chunks := sequence.append_token(token):
                        _notify(sequence, chunks)
                    if sequence.finished:
                        return


async def _create_engine(arguments: Any) -> Any:
    """Create vLLM's engine inside the event loop that runs it."""
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(arguments)


def _default_arguments(checkpoint: Checkpoint) -> dict[str, Any]:
    arguments = {
        "model": checkpoint.name,
        "revision": checkpoint.revision,
        "dtype": checkpoint.dtype,
        "trust_remote_code": checkpoint.trust_remote_code,
        "load_format": "auto" if checkpoint.pickle else "safetensors",
    }
    gpus = assigned_gpus()
    if 0 < gpus < 1:
        return arguments | {"gpu_memory_utilization": GPU_MEMORY_SHARE * gpus}
    return arguments | {"tensor_parallel_size": max(1, int(gpus))}


def _sampling_params(sequence: Sequence) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    settings, sampling = sequence.settings, sequence.settings.sampling
    if sampling.get("typical_p", 1.0) < 1.0:
        raise InvalidInput("`typical_p` is not supported by vLLM, which runs this model", field="typical_p")
    return SamplingParams(
        temperature=sampling.get("temperature", 1.0) if sampling else 0.0,
        top_k=sampling.get("top_k") or 0,
        top_p=sampling.get("top_p", 1.0),
        seed=settings.seed % 2**63 if sampling else None,
        repetition_penalty=settings.repetition_penalty,
        frequency_penalty=settings.frequency_penalty,
        presence_penalty=settings.presence_penalty,
        max_tokens=sequence.output.max_new_tokens,
        stop_token_ids=sorted(sequence.output.eos_token_ids),
        logprobs=settings.top_n_tokens,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def _sampled_token(token_id: int, logprobs: Any, top_n: int) -> SampledToken:
    pairs = [(id, logprob.logprob) for id, logprob in logprobs.items()]
    best_first = sorted(pairs, key=lambda pair: -pair[1])
    return SampledToken(token_id, logprobs[token_id].logprob, best_first[:top_n])


def _notify(sequence: Sequence, update: Update) -> None:
    if sequence.loop.is_closed():
        sequence.finished = True
    else:
        sequence.loop.call_soon_threadsafe(sequence.on_update, update)
