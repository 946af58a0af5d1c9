"""Text from a language model: what may be asked of it, and one way to generate, whole or streamed."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from deployments.engines.checkpoint import Checkpoint, end_token_ids
from deployments.engines.generators import ENGINES
from deployments.errors import InvalidInput
from deployments.generation.generation_rules import rules
from deployments.generation.output import Answer, GeneratedChunk
from deployments.generation.params import GenerationParams
from deployments.generation.sequence import Row
from deployments.generation.settings import Wishes, fresh_seed, resolve
from deployments.limits import Batching
from deployments.pipelines.tokenization import UNKNOWN_TOKEN, vocabulary_size

DEFAULT_NEW_TOKENS = 100  # where neither the request nor the checkpoint says
LEAST_USUAL, MOST_USUAL = 32, 1024  # whatever a checkpoint says; a request may say more
ROOM_TO_ANSWER = 1 / 4  # of the context at most, where a prompt is too long; one that fits is read whole
LENGTHS = ("max_new_tokens", "max_length", "min_new_tokens", "min_length")
SAMPLING = ("do_sample", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "num_beams")


class TextGenerator:
    """A checkpoint's language model, which continues prompts of token ids; `task` is the Hub's name for it.

    The engine that the config names runs all answers together: ours, in one batch that they join and leave
    one by one, or vLLM. `limits` are those of ours, and may change at any time.
    """

    def __init__(self, checkpoint: Checkpoint, tokenizer: Any, task: str) -> None:
        self.tokenizer, self.limits = tokenizer, Batching()
        load = ENGINES[checkpoint.engine]
        self.model, self.engine, self.max_length = load(checkpoint, tokenizer, lambda: self.limits)
        self.own = take_settings(self.model, task)
        self.ends = end_token_ids(self.model, tokenizer)
        self.vocabulary = vocabulary_size(self.model)

    async def run(self, prompts: Sequence[list[int]], params: GenerationParams) -> list[Answer]:
        """One whole answer per prompt. Raises `InvalidInput` for a prompt that the model cannot read."""
        rows = [self._row(prompt, params) for prompt in prompts]
        await self.engine.finish(rows)
        return [row.answer for row in rows]

    def stream(self, prompt: list[int], params: GenerationParams) -> AsyncGenerator[GeneratedChunk, None]:
        """The answer's chunks as they come; closing the iterator ends the work within a token."""
        return self.engine.stream(self._row(prompt, params))

    def counters(self) -> dict[str, int]:
        """Running totals, as the engine has them."""
        return self.engine.counters()

    def close(self) -> None:
        """End the engine; answers that are not whole fail with `ModelNotReady`."""
        self.engine.close()

    def _row(self, prompt: list[int], params: GenerationParams) -> Row:
        settings = resolve(params, self.own)
        answer = self._answer(prompt, params, settings)
        wishes = Wishes(
            settings=settings,
            seed=answer.seed or 0,
            repetition_penalty=params.repetition_penalty or self.own.get("repetition_penalty", 1.0),
            frequency_penalty=params.frequency_penalty or 0.0,
            presence_penalty=params.presence_penalty or 0.0,
            top_n_tokens=params.top_n_tokens or 0,
            rules=rules(self.model.generation_config, len(answer.prompt), self.ends, self.model.device),
        )
        return Row(answer, wishes)

    def _answer(self, prompt: list[int], params: GenerationParams, settings: dict[str, Any]) -> Answer:
        prompt = self._cut(prompt, params.truncate or len(prompt))
        wanted = params.max_new_tokens or self._usual_length(len(prompt))
        if len(prompt) >= self.max_length:
            prompt = self._cut(prompt, self.max_length - min(wanted, int(self.max_length * ROOM_TO_ANSWER)))
        room = min(self.max_length, self.engine.room)
        if len(prompt) >= room:
            raise InvalidInput(f"the text has {len(prompt):,} tokens; this replica has room for {room - 1:,}")
        if max(prompt) >= self.vocabulary:
            raise InvalidInput(UNKNOWN_TOKEN.format(max(prompt)))
        return Answer(
            self.tokenizer,
            prompt,
            ends=self.ends,
            budget=min(wanted, room - len(prompt)),
            stops=params.stop,
            seed=(fresh_seed() if params.seed is None else params.seed) if settings else None,
        )

    def _usual_length(self, prompt: int) -> int:
        usual = self.own.get("max_new_tokens", DEFAULT_NEW_TOKENS)
        if "max_length" in self.own and "max_new_tokens" not in self.own:
            usual = self.own["max_length"] - prompt
        return int(min(max(usual, LEAST_USUAL), MOST_USUAL))

    def _cut(self, prompt: list[int], size: int) -> list[int]:
        """The prompt's last `size` tokens, of which the token that begins every text stays the first."""
        bos = self.tokenizer.bos_token_id
        prompt = prompt or [token for token in (bos, *self.ends) if token is not None][:1]
        if not prompt:
            raise InvalidInput("the text has no tokens for this model")
        first = prompt[:1] if prompt[0] == bos else []
        return prompt if len(prompt) <= size else first + prompt[len(prompt) - size + len(first) :]


def take_settings(model: Any, task: str) -> dict[str, Any]:
    """Take the checkpoint's own lengths and sampling settings out of its generation config, and return them.

    Left there they would mix with a request's, and `generate` would warn. What an old checkpoint's config
    says for the `task` comes first, as in transformers' pipelines; a `prefix` may be among it.
    """
    config = model.generation_config
    special = (getattr(model.config, "task_specific_params", None) or {}).get(task, {})
    for name in special.keys() & vars(config):
        setattr(config, name, special[name])
    own = {name: getattr(config, name, None) for name in (*LENGTHS, *SAMPLING)}
    for name in own:
        setattr(config, name, None)
    return {name: value for name, value in (special | own).items() if value is not None}
