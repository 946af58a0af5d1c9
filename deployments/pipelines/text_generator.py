"""Text generation with a causal language model: token ids in, whole or streamed outputs out."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from deployments.engines.checkpoint import Checkpoint, eos_token_ids, vocabulary_size
from deployments.engines.generators import ENGINES
from deployments.errors import ContextLengthExceeded, InvalidInput
from deployments.generation.generation_rules import generation_rules
from deployments.generation.output import GeneratedChunk, GenerationOutput
from deployments.generation.params import GenerationParams
from deployments.generation.sequence import Sequence
from deployments.generation.settings import SamplingSettings, random_seed, resolve_sampling
from deployments.limits import Batching
from deployments.pipelines.tokenization import UNKNOWN_TOKEN

DEFAULT_NEW_TOKENS = 100  # if neither the request nor the checkpoint has a number
MIN_DEFAULT, MAX_DEFAULT = 32, 1024  # bounds of a checkpoint's number; a request may exceed them
OUTPUT_SHARE = 1 / 4  # of the context, at most, that a prompt longer than the context leaves for the output
LENGTHS = ("max_new_tokens", "max_length", "min_new_tokens", "min_length")
SAMPLING = ("do_sample", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "num_beams")


class TextGenerator:
    """A checkpoint's language model that continues prompts of token ids.

    The config's engine runs all sequences together: Roster's continuous batching, or vLLM. `limits` bound
    Roster's batch and may change at any time. `task` is the Hub's name of the task.
    """

    def __init__(self, checkpoint: Checkpoint, tokenizer: Any, task: str) -> None:
        self.tokenizer, self.limits = tokenizer, Batching()
        load = ENGINES[checkpoint.engine]
        self.model, self.engine, self.max_length = load(checkpoint, tokenizer, lambda: self.limits)
        self.defaults = pop_generation_defaults(self.model, task)
        self.eos_token_ids = eos_token_ids(self.model, tokenizer)
        self.vocabulary_size = vocabulary_size(self.model)

    async def run(self, prompts: list[list[int]], params: GenerationParams) -> list[GenerationOutput]:
        """Return one finished output for each prompt. Raises `InvalidInput` for an unusable prompt."""
        sequences = [self._sequence(prompt, params) for prompt in prompts]
        await self.engine.generate(sequences)
        return [sequence.output for sequence in sequences]

    async def stream(
        self, prompt: list[int], params: GenerationParams
    ) -> AsyncGenerator[GeneratedChunk, None]:
        """Yield the chunks of an output as they arrive; closing the iterator stops it within a token."""
        async with aclosing(self.engine.stream(self._sequence(prompt, params))) as chunks:
            async for chunk in chunks:
                is_wanted = params.details or chunk.details is None
                yield chunk if is_wanted else chunk.model_copy(update={"details": None})

    def counters(self) -> dict[str, int]:
        """Return the engine's running totals."""
        return self.engine.counters()

    def close(self) -> None:
        """Stop the engine; unfinished outputs fail with `ModelNotReady`."""
        self.engine.close()

    def _sequence(self, prompt: list[int], params: GenerationParams) -> Sequence:
        sampling = resolve_sampling(params, self.defaults)
        output = self._output(prompt, params, sampling)
        config, prompt_length = self.model.generation_config, len(output.prompt)
        settings = SamplingSettings(
            sampling=sampling,
            seed=output.seed or 0,
            repetition_penalty=params.repetition_penalty or self.defaults.get("repetition_penalty", 1.0),
            frequency_penalty=params.frequency_penalty or 0.0,
            presence_penalty=params.presence_penalty or 0.0,
            top_n_tokens=params.top_n_tokens or 0,
            rules=generation_rules(config, prompt_length, self.eos_token_ids, self.model.device),
        )
        return Sequence(output, settings)

    def _output(
        self, prompt: list[int], params: GenerationParams, sampling: dict[str, Any]
    ) -> GenerationOutput:
        prompt = self._truncate(prompt, params.truncate or len(prompt))
        new_tokens = params.max_new_tokens or self._new_tokens_within(params.max_length, len(prompt))
        if len(prompt) >= self.max_length:
            if params.truncate is None:
                raise ContextLengthExceeded(
                    f"the text has {len(prompt):,} tokens; this model reads at most {self.max_length - 1:,}, "
                    "and writes after them"
                )
            reserved = min(new_tokens, int(self.max_length * OUTPUT_SHARE))
            prompt = self._truncate(prompt, self.max_length - reserved)
        context = min(self.max_length, self.engine.max_context_tokens)
        if len(prompt) >= context:
            raise InvalidInput(
                f"the text has {len(prompt):,} tokens; this replica accepts at most {context - 1:,}"
            )
        if max(prompt) >= self.vocabulary_size:
            raise InvalidInput(UNKNOWN_TOKEN.format(max(prompt)))
        return GenerationOutput(
            self.tokenizer,
            prompt,
            eos_token_ids=self.eos_token_ids,
            max_new_tokens=min(new_tokens, context - len(prompt)),
            stop_strings=params.stop,
            seed=(random_seed() if params.seed is None else params.seed) if sampling else None,
        )

    def _new_tokens_within(self, max_length: int | None, prompt_length: int) -> int:
        """Return how many tokens a prompt leaves of `max_length`, or else the checkpoint's number."""
        if max_length is None:
            return self._default_new_tokens(prompt_length)
        if max_length <= prompt_length:
            problem = f"the prompt has {prompt_length:,} tokens, which `max_length` counts as well"
            raise InvalidInput(problem, field="max_length")
        return max_length - prompt_length

    def _default_new_tokens(self, prompt_length: int) -> int:
        new_tokens = self.defaults.get("max_new_tokens", DEFAULT_NEW_TOKENS)
        if "max_length" in self.defaults and "max_new_tokens" not in self.defaults:
            new_tokens = self.defaults["max_length"] - prompt_length
        return int(min(max(new_tokens, MIN_DEFAULT), MAX_DEFAULT))

    def _truncate(self, prompt: list[int], size: int) -> list[int]:
        """Return the prompt's last `size` tokens; a BOS token at its start stays first."""
        bos = self.tokenizer.bos_token_id
        prompt = prompt or [token for token in (bos, *self.eos_token_ids) if token is not None][:1]
        if not prompt:
            raise InvalidInput("the text has no tokens for this model")
        first = prompt[:1] if prompt[0] == bos else []
        return prompt if len(prompt) <= size else first + prompt[len(prompt) - size + len(first) :]


def pop_generation_defaults(model: Any, task: str) -> dict[str, Any]:
    """Remove the lengths and sampling settings from a model's generation config and return them.

    In the config they would mix with a request's, and `generate` would warn. An old checkpoint's
    `task_specific_params` for the `task` take precedence, as in transformers' pipelines; they may contain a
    `prefix`.
    """
    config = model.generation_config
    for_task = (getattr(model.config, "task_specific_params", None) or {}).get(task, {})
    for name in for_task.keys() & vars(config):
        setattr(config, name, for_task[name])
    defaults = {name: getattr(config, name, None) for name in (*LENGTHS, *SAMPLING)}
    for name in defaults:
        setattr(config, name, None)
    return {name: value for name, value in (for_task | defaults).items() if value is not None}
