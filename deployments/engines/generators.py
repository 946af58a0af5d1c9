"""The engines of language models, by the names that a config gives them: one line each.

A function gets a checkpoint, its tokenizer and the limits of the batch, and loads the language model: it
returns the network, the `Engine` that runs it, and the longest text in tokens. `encoders` is the same table
for networks that read whole texts.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from deployments.engines import vllm
from deployments.engines.checkpoint import Checkpoint, end_token_ids, max_length, token_ids
from deployments.engines.openvino import generation as openvino
from deployments.engines.torch import generation as torch
from deployments.generation.engine import Engine
from deployments.generation.scheduler import ContinuousBatching
from deployments.generation.sequence_runner import SequenceRunner
from deployments.generation.waiting_queue import Waiting
from deployments.limits import Batching

Limits = Callable[[], Batching]


def _batched(
    runner: Callable[[Any, int], SequenceRunner], checkpoint: Checkpoint, tokenizer: Any, limits: Limits
) -> tuple[Any, Engine, int]:
    """Load a language model whose answers Roster's own scheduler batches; `runner` runs its sequences."""
    from transformers import AutoModelForCausalLM

    model = checkpoint.network(AutoModelForCausalLM)
    pad = next(iter(token_ids(tokenizer.pad_token_id) or end_token_ids(model, tokenizer)), 0)
    engine = ContinuousBatching(runner(model, pad), Waiting(limits))
    return model, engine, max_length(tokenizer, model.config)


ENGINES: dict[str, Callable[[Checkpoint, Any, Limits], tuple[Any, Engine, int]]] = {
    "torch": partial(_batched, torch.network),
    "openvino": partial(_batched, openvino.paged),
    "vllm": vllm.load,
}
