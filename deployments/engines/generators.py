"""The engines of language models, by their names in the config: one line each.

A function takes a checkpoint, its tokenizer and the batch limits. It loads the language model and returns the
network, the `Engine` that runs it, and the maximum length of a sequence in tokens. `encoders` is the same
table for encoder networks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from deployments.engines import vllm
from deployments.engines.checkpoint import Checkpoint, eos_token_ids, flatten_token_ids
from deployments.engines.openvino import generation as openvino
from deployments.engines.positions import max_length
from deployments.engines.torch import generation as torch
from deployments.generation.engine import Engine
from deployments.generation.scheduler import ContinuousBatching
from deployments.generation.sequence_runner import SequenceRunner
from deployments.generation.waiting_queue import WaitingQueue
from deployments.limits import Batching

Limits = Callable[[], Batching]


def _load_batched(
    create_runner: Callable[[Any, int], SequenceRunner],
    checkpoint: Checkpoint,
    tokenizer: Any,
    limits: Limits,
) -> tuple[Any, Engine, int]:
    """Load a language model for Roster's continuous batching; `create_runner` takes a pad token as well."""
    from transformers import AutoModelForCausalLM

    model = checkpoint.network(AutoModelForCausalLM)
    pad_ids = flatten_token_ids(tokenizer.pad_token_id) or eos_token_ids(model, tokenizer)
    runner = create_runner(model, next(iter(pad_ids), 0))
    engine = ContinuousBatching(runner, WaitingQueue(limits))
    return model, engine, max_length(tokenizer, model)


ENGINES: dict[str, Callable[[Checkpoint, Any, Limits], tuple[Any, Engine, int]]] = {
    "torch": partial(_load_batched, torch.create_runner),
    "openvino": partial(_load_batched, openvino.create_runner),
    "vllm": vllm.load,
}
